package httpmesh

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// trickle is a body that is written to by hand.
func trickle(code int, w **io.PipeWriter) roundTrip {
	return func(req *http.Request) (*http.Response, error) {
		var r *io.PipeReader
		r, *w = io.Pipe()
		return &http.Response{StatusCode: code, Body: r, ContentLength: -1, Request: req}, nil
	}
}

func TestPausesOfBodiesAreBounded(t *testing.T) {
	for _, c := range []struct {
		name   string
		limit  time.Duration
		method string
		code   int
		pause  time.Duration // of the server
		rest   time.Duration // of the caller
		want   bool          // that the pause is too long
	}{
		{"none", 0, "GET", 200, time.Hour, 0, false}, {"short", time.Second, "GET", 200, 999 * time.Millisecond, 0, false},
		{"long", time.Second, "GET", 200, 1500 * time.Millisecond, 0, true}, {"POST", time.Second, "POST", 200, 2 * time.Second, 0, true},
		{"caller rests", time.Second, "GET", 200, 0, time.Hour, false}, {"tunnel", time.Second, "CONNECT", 200, time.Hour, 0, false},
		{"upgrade", time.Second, "GET", 101, time.Hour, 0, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := open(t, zerohop.Config{Resolver: fakes(1), Spec: zerohop.Spec{Defaults: zerohop.Policy{ReadTimeout: c.limit}}})
			var w *io.PipeWriter
			resp, err := NewTransport(m, trickle(c.code, &w)).RoundTrip(request(t.Context(), t, c.method, "http://orders/", nil))
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				for range 3 {
					time.Sleep(c.pause)
					if _, err := w.Write([]byte("x")); err != nil {
						return
					}
				}
				w.Close()
			}()
			var (
				got []byte
				buf [1]byte
				n   int
				end error
			)
			start := time.Now()
			for end == nil {
				time.Sleep(c.rest)
				n, end = resp.Body.Read(buf[:])
				got = append(got, buf[:n]...)
			}
			took := time.Since(start)
			if c.want {
				timeout, ok := errors.AsType[net.Error](end)
				if !ok || !timeout.Timeout() || !strings.Contains(end.Error(), c.limit.String()) || !errors.Is(end, os.ErrDeadlineExceeded) || took != c.limit {
					t.Errorf("%s: body ended with %v after %v, want a timeout after %v", c.name, end, took, c.limit)
				}
				if !os.IsTimeout(end) { // which looks at the error itself
					t.Errorf("%s: body ended with a %T, want a net.Error", c.name, end)
				}
			} else if end != io.EOF || string(got) != "xxx" {
				t.Errorf("%s: body = %q, %v, want all of it", c.name, got, end)
			}
			if got := nodes(t, m)[0].Penalized(time.Now()); got != c.want {
				t.Errorf("%s: node is avoided: %v, want %v", c.name, got, c.want)
			}
			resp.Body.Close()
			checkIdle(t, m)
			time.Sleep(c.pause)
		})
	}
}

// The context of the attempt ends, too: a body may heed nothing else.
func TestBodiesThatOnlyHeedTheirContextAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var result zerohop.CallResult
		m := open(t, zerohop.Config{
			Resolver: fakes(2), Spec: zerohop.Spec{Defaults: zerohop.Policy{ReadTimeout: time.Second}},
			Hooks: zerohop.Hooks{CallDone: func(_ context.Context, _ zerohop.CallInfo, r zerohop.CallResult) { result = r }},
		})
		resp, err := get(t.Context(), t, NewTransport(m, roundTrip(func(req *http.Request) (*http.Response, error) {
			resp, err := answer(200, "x")(req)
			resp.Body.(*fakeBody).Reader = readerFunc(func([]byte) (int, error) {
				<-req.Context().Done()
				return 0, req.Context().Err()
			})
			return resp, err
		})), "http://orders/")
		if err != nil {
			t.Fatal(err)
		}
		_, err = resp.Body.Read(make([]byte, 1))
		if !errors.Is(err, os.ErrDeadlineExceeded) || result.Outcome != resilience.Failure || !errors.Is(result.Err, os.ErrDeadlineExceeded) {
			t.Errorf("body ended with %v, the call as %+v, want a timeout and a failure", err, result)
		}
		resp.Body.Close()
	})
}

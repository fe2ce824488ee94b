package httpmesh

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

func TestBodiesThatTheCallerSpoilsAreNotHeldAgainstEndpoints(t *testing.T) {
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done() // no answer: the connection ends first
	})
	m := open(t, zerohop.Config{Resolver: source(addr(s))})
	tr := client(t, m)
	broken := errors.New("upload broke")
	for name, c := range map[string]struct {
		body   io.Reader
		length int64
		is     error
	}{
		"broken":    {io.MultiReader(strings.NewReader("x"), iotest.ErrReader(broken)), -1, broken},
		"too short": {strings.NewReader("abc"), 10, nil},
		"too long":  {strings.NewReader("abcdef"), 3, nil},
	} {
		req := request(t.Context(), t, "PUT", "http://orders/", nil)
		req.Body, req.ContentLength = io.NopCloser(c.body), c.length
		req.GetBody = func() (io.ReadCloser, error) { return req.Body, nil }
		_, err := tr.RoundTrip(req)
		e := failure(t, err)
		if len(e.Attempts) != 1 || e.Attempts[0].Outcome != resilience.Neutral || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: error = %+v, want one neutral attempt", name, e)
		}
		if _, known := nodes(t, m)[0].Cost(time.Now()); known || nodes(t, m)[0].Penalized(time.Now()) {
			t.Errorf("%s: something was learned of the endpoint", name)
		}
	}
}

func TestUploadsThatTheEndpointBreaksAreHeldAgainstIt(t *testing.T) {
	s := serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	m := open(t, zerohop.Config{Resolver: source(addr(s))})
	r, w := io.Pipe()
	go func() { // ends when the transport closes the body
		for {
			if _, err := w.Write(make([]byte, 1<<10)); err != nil {
				return
			}
		}
	}()
	_, err := client(t, m).RoundTrip(request(t.Context(), t, "POST", "http://orders/", r))
	if e := failure(t, err); e.Attempts[0].Outcome != resilience.Failure || !nodes(t, m)[0].Penalized(time.Now()) {
		t.Errorf("error = %+v, want a failure of the endpoint", e)
	}
}

func TestSlowUploadsAreNotHeldAgainstEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, zerohop.Config{Resolver: fakes(1)})
		tr := NewTransport(m, roundTrip(func(req *http.Request) (*http.Response, error) {
			done := make(chan error, 1)
			go func() { // as net/http does
				_, err := io.Copy(io.Discard, req.Body)
				done <- err
			}()
			select {
			case <-done:
			case <-req.Context().Done():
				return nil, req.Context().Err()
			}
			return after(20*time.Millisecond, answer(200, "ok"))(req)
		}))
		var writers sync.WaitGroup
		slow := func() *io.PipeReader {
			r, w := io.Pipe()
			writers.Go(func() {
				for range 3 {
					time.Sleep(time.Second)
					if _, err := w.Write([]byte("x")); err != nil {
						return
					}
				}
				w.Close()
			})
			return r
		}
		body := slow()
		resp, err := tr.RoundTrip(request(t.Context(), t, "POST", "http://orders/", body))
		read(t, resp, err)
		if got, _ := nodes(t, m)[0].Cost(time.Now()); got < 19*time.Millisecond || got > 21*time.Millisecond {
			t.Errorf("cost = %v after an answer 20ms after an upload of 3 s, want 20ms", got)
		}

		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		body = slow()
		_, err = tr.RoundTrip(request(ctx, t, "POST", "http://orders/", body))
		if e := failure(t, err); e.Attempts[0].Outcome != resilience.Neutral || nodes(t, m)[0].Penalized(time.Now()) {
			t.Errorf("error = %+v, want a neutral attempt: the upload took all the time", e)
		}
		body.Close()
		writers.Wait()
	})
}

func TestFilesThatTheKernelCanSendAreLeftAlone(t *testing.T) {
	name := filepath.Join(t.TempDir(), "upload")
	if err := os.WriteFile(name, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := open(t, zerohop.Config{Resolver: fakes(1)})
	for _, c := range []struct {
		url    string
		length int64
		want   bool
	}{{"http://orders/", 7, true}, {"http://orders/", 0, false}, {"https://orders/", 7, false}} {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		req := request(t.Context(), t, "PUT", c.url, f)
		req.ContentLength = c.length
		resp, err := NewTransport(m, inTurn(func(req *http.Request) (*http.Response, error) {
			if got := req.Body == f; got != c.want {
				t.Errorf("%s, length %d: body = %T, want the file: %v", c.url, c.length, req.Body, c.want)
			}
			return answer(200, "ok")(req)
		})).RoundTrip(req)
		read(t, resp, err)
		if _, err := f.Stat(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s, length %d: the file is open", c.url, c.length)
		}
	}
}

// http.Client.Timeout closes Request.Cancel at the deadline of the context, in any order.
func TestClientTimeoutIsTheCallersDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var result zerohop.CallResult
		m := open(t, zerohop.Config{Resolver: fakes(2), Hooks: zerohop.Hooks{
			CallDone: func(_ context.Context, _ zerohop.CallInfo, r zerohop.CallResult) { result = r },
		}})
		canceled := errors.New("request canceled")
		base := roundTrip(func(req *http.Request) (*http.Response, error) {
			//lint:ignore SA1019 http.Client uses it
			<-req.Cancel
			return nil, canceled
		})
		c := &http.Client{Transport: NewTransport(m, base), Timeout: 40 * time.Millisecond}
		for range 100 {
			if _, err := c.Get("http://orders/"); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("error = %v, want %v", err, context.DeadlineExceeded)
			}
			if result.Detail != resilience.Canceled || result.Outcome != resilience.Neutral {
				t.Fatalf("call ended as %v, %v, want %v, %v", result.Detail, result.Outcome, resilience.Canceled, resilience.Neutral)
			}
		}
		req := request(t.Context(), t, "GET", "http://orders/", nil)
		cancel := make(chan struct{})
		close(cancel)
		//lint:ignore SA1019 a caller may still use it
		req.Cancel = cancel
		_, err := NewTransport(m, base).RoundTrip(req)
		if e := failure(t, err); !errors.Is(err, canceled) || len(e.Attempts) != 1 || e.Attempts[0].Outcome != resilience.Neutral {
			t.Errorf("error = %+v, want one neutral attempt", e)
		}
		checkIdle(t, m)
	})
}

// What comes after a TLS handshake proves nothing about whether the request was read.
func TestGarbageAfterTheHandshakeIsNoProofThatNothingWasSent(t *testing.T) {
	var posts atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		posts.Add(1)
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		plain := conn.(*tls.Conn).NetConn()
		fmt.Fprint(plain, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
		plain.Close()
	}))
	s.StartTLS()
	defer s.Close()
	m := open(t, zerohop.Config{Resolver: source(addr(s))})
	base := s.Client().Transport.(*http.Transport).Clone()
	base.TLSClientConfig.ServerName = "example.com"
	tr := NewTransport(m, base)
	defer tr.CloseIdleConnections()
	_, err := tr.RoundTrip(request(t.Context(), t, "POST", "https://orders/", strings.NewReader("x")))
	var record tls.RecordHeaderError
	if e := failure(t, err); !errors.As(err, &record) || !e.Sent || posts.Load() != 1 {
		t.Errorf("server got %d requests, error = %+v, want 1, sent, a broken record", posts.Load(), e)
	}
}

func TestBodiesInMemoryAreLeftAlone(t *testing.T) {
	for name, c := range map[string]struct {
		body   io.Reader
		length int64 // announced, if not 0
		want   bool
	}{
		"bytes.Reader": {bytes.NewReader([]byte("content")), 0, true}, "strings.Reader": {strings.NewReader("content"), 0, true},
		"bytes.Buffer": {bytes.NewBufferString("content"), 0, true}, "too short": {strings.NewReader("content"), 8, false},
		"other": {iotest.OneByteReader(strings.NewReader("content")), 7, false},
	} {
		req := request(t.Context(), t, "POST", "http://orders/", c.body)
		if c.length != 0 {
			req.ContentLength = c.length
		}
		if _, wrapped := observed(req).(*upload); wrapped == c.want {
			t.Errorf("%s: body is observed: %v, want %v", name, wrapped, !c.want)
		}
	}
}

// Of a call with a body that cannot be copied yet, nothing is sent twice at a time.
func TestBackupsWaitForTheWholeBody(t *testing.T) {
	for _, whole := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var result zerohop.CallResult
			m := open(t, zerohop.Config{Resolver: fakes(3), Hooks: zerohop.Hooks{
				CallDone: func(_ context.Context, _ zerohop.CallInfo, r zerohop.CallResult) { result = r },
			}})
			content := strings.Repeat("x", 1000)
			source := func() io.Reader {
				if whole {
					return strings.NewReader(content)
				}
				return io.MultiReader(strings.NewReader(content[1:]), readerFunc(func(p []byte) (int, error) {
					time.Sleep(5 * time.Second)
					return copy(p, "x"), io.EOF
				}))
			}()
			reads := func(then roundTrip) roundTrip {
				return func(req *http.Request) (*http.Response, error) {
					got, err := io.ReadAll(req.Body)
					if err != nil || string(got) != content {
						t.Errorf("attempt read %d bytes, %v, want %d", len(got), err, len(content))
					}
					return then(req)
				}
			}
			fs, attempts := []roundTrip{reads(hang), reads(answer(200, "ok"))}, 2
			if !whole {
				fs, attempts = []roundTrip{reads(answer(200, "ok"))}, 1
			}
			base := inTurn(fs...)
			resp, err := NewTransport(m, base).RoundTrip(request(t.Context(), t, "PUT", "http://orders/", io.MultiReader(source)))
			if got := read(t, resp, err); got != "ok" || len(base.addrs) != attempts {
				t.Errorf("whole %v: answer %q after %d attempts, want %d", whole, got, len(base.addrs), attempts)
			}
			if synctest.Wait(); result.Attempts != attempts {
				t.Errorf("whole %v: CallDone got %+v, want %d attempts", whole, result, attempts)
			}
		})
	}
}

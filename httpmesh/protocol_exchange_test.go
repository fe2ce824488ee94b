package httpmesh

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// rewinding is a body as connect-go sends it: GetBody returns it again, from its beginning.
type rewinding struct {
	mu sync.Mutex
	*strings.Reader
}

func (b *rewinding) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Reader.Read(p)
}

func (*rewinding) Close() error { return nil }

// message is what calls of these tests send.
const message = "a message of some length"

// unary is the request of an RPC that may be repeated.
func unary(t testing.TB, contentType string) *http.Request {
	ctx := zerohop.WithCall(t.Context(), zerohop.CallOptions{Idempotent: zerohop.On})
	req := request(ctx, t, http.MethodPost, "http://orders/a.B/C", nil)
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Connect-Protocol-Version", "1")
	body := &rewinding{Reader: strings.NewReader(message)}
	req.Body, req.ContentLength = body, int64(len(message))
	req.GetBody = func() (io.ReadCloser, error) {
		body.mu.Lock()
		defer body.mu.Unlock()
		_, err := body.Seek(0, io.SeekStart)
		return body, err
	}
	return req
}

// taking reads n bytes of the request, checks that they are its first ones, and goes on as f.
func taking(t testing.TB, n int, f roundTrip) roundTrip {
	return func(req *http.Request) (*http.Response, error) {
		got := make([]byte, n)
		if _, err := io.ReadFull(req.Body, got); err != nil || string(got) != message[:n] {
			t.Errorf("the server got %q, %v, want %q", got, err, message[:n])
		}
		return f(req)
	}
}

func TestBodiesThatAreRewoundArriveWhole(t *testing.T) {
	const half = len(message) / 2
	unavailable := answer(503, `{"code":"unavailable"}`, "Content-Type", "application/json")
	ok := answer(200, "ok", "Content-Type", "application/proto")
	rest := func(want error) roundTrip { // reads on after the next attempt began
		return func(req *http.Request) (*http.Response, error) {
			go func() {
				time.Sleep(500 * time.Millisecond)
				if _, err := req.Body.Read(make([]byte, 1)); !errors.Is(err, want) {
					t.Errorf("the attempt before reads on: %v, want %v", err, want)
				}
			}()
			return unavailable(req)
		}
	}
	for _, row := range []struct {
		name  string
		fs    []roundTrip
		tries int
	}{
		{"retry", []roundTrip{taking(t, half, rest(errRetired)), taking(t, len(message), after(700*time.Millisecond, ok))}, 2},
		{"retry after all", []roundTrip{taking(t, len(message), rest(io.EOF)), taking(t, len(message), after(700*time.Millisecond, ok))}, 2},
		{"backup after all", []roundTrip{taking(t, len(message), hang), taking(t, len(message), ok)}, 2},
		{"no backup in the middle", []roundTrip{taking(t, half, after(time.Minute, func(req *http.Request) (*http.Response, error) {
			got, err := io.ReadAll(req.Body)
			if string(got) != message[half:] || err != nil {
				t.Errorf("then the server got %q, %v, want %q", got, err, message[half:])
			}
			return ok(req)
		}))}, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := inTurn(row.fs...)
				tr := NewTransport(open(t, zerohop.Config{Resolver: fakes(3)}), base)
				resp, err := tr.RoundTrip(unary(t, "application/proto"))
				if got, want := read(t, resp, err), "ok"; got != want {
					t.Errorf("body = %q, want %q", got, want)
				}
				if got := len(base.addrs); got != row.tries {
					t.Errorf("%d attempts, want %d", got, row.tries)
				}
				synctest.Wait()
			})
		})
	}
}

func TestErrorsOfRPCsAreRepeated(t *testing.T) {
	for _, row := range []struct {
		contentType string
		bad         roundTrip
		tries       int
	}{
		{"application/proto", answer(503, `{"code":"unavailable"}`, "Content-Type", "application/json"), 2},
		{"application/proto", answer(503, `{"code":"not_found"}`, "Content-Type", "application/json"), 1},
		{"application/grpc", answer(200, "", "Content-Type", "application/grpc", "Grpc-Status", "14"), 2},
		{"application/grpc", answer(200, "", "Content-Type", "application/grpc", "Grpc-Status", "14", "Grpc-Retry-Pushback-Ms", "-1"), 1},
		{"application/grpc-web", answer(200, "", "Content-Type", "application/grpc-web", "Grpc-Status", "14"), 2},
		{"application/grpc-web", answer(200, "", "Content-Type", "application/grpc-web", "Grpc-Status", "13"), 1},
		{"application/connect+proto", answer(503, ""), 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			base := inTurn(row.bad, answer(200, "ok"))
			resp, err := NewTransport(open(t, zerohop.Config{Resolver: fakes(3)}), base).RoundTrip(unary(t, row.contentType))
			read(t, resp, err)
			if got := len(base.addrs); got != row.tries {
				t.Errorf("%s: %d attempts, want %d", row.contentType, got, row.tries)
			}
		})
	}
}

// Who streams to a service may have acted on what it answered to the first messages.
func TestStreamsOfCallersAreSentOnce(t *testing.T) {
	for _, row := range []struct {
		name  string
		first roundTrip
		tries int
	}{
		{"taken", taking(t, 1, answer(503, "")), 1},
		{"slow", taking(t, len(message), after(time.Minute, answer(200, ""))), 1},
		{"not taken", fail(errRefused), 2},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := inTurn(row.first, taking(t, len(message), answer(200, "")))
				ctx := zerohop.WithCall(t.Context(), zerohop.CallOptions{Idempotent: zerohop.On})
				req := request(ctx, t, http.MethodPost, "http://orders/", io.NopCloser(strings.NewReader(message)))
				req.Header.Set("Content-Type", "application/connect+proto")
				resp, err := NewTransport(open(t, zerohop.Config{Resolver: fakes(3)}), base).RoundTrip(req)
				read(t, resp, err)
				if got := len(base.addrs); got != row.tries {
					t.Errorf("%d attempts, want %d", got, row.tries)
				}
			})
		})
	}
}

func TestAttemptsOfStreamsEndAsTheirAnswersSay(t *testing.T) {
	unavailable := envelope(2, `{"error":{"code":"unavailable"}}`)
	for _, row := range []struct {
		name string
		body string
		most int64 // that the caller reads
		want resilience.Outcome
	}{
		{"success", envelope(0, "a") + envelope(2, "{}"), 100, resilience.Success},
		{"failure", envelope(0, "a") + unavailable, 100, resilience.Failure},
		{"left in the middle", envelope(0, "a") + unavailable, 7, resilience.Success},
		{"left at the end", unavailable, int64(len(unavailable)), resilience.Failure},
		{"cut", envelope(0, "a"), 100, resilience.Failure},
	} {
		var results []zerohop.AttemptResult
		m := open(t, zerohop.Config{Resolver: fakes(2), Hooks: zerohop.Hooks{
			AttemptDone: func(_ context.Context, _ zerohop.CallInfo, _ zerohop.AttemptInfo, r zerohop.AttemptResult) {
				results = append(results, r)
			},
		}})
		tr := NewTransport(m, inTurn(answer(200, row.body, "Content-Type", "application/connect+proto")))
		resp, err := tr.RoundTrip(unary(t, "application/connect+proto"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(io.LimitReader(resp.Body, row.most))
		if want := row.body[:min(int(row.most), len(row.body))]; string(got) != want || err != nil {
			t.Errorf("%s: body = %q, %v, want %q", row.name, got, err, want)
		}
		resp.Body.Close()
		if len(results) != 1 || results[0].Outcome != row.want || (results[0].Err != nil) != (row.want != resilience.Success) {
			t.Errorf("%s: results = %+v, want one that is a %v", row.name, results, row.want)
		}
		checkIdle(t, m)
	}
}

// An answer without any body cannot have said how the call went.
func TestEmptyAnswersOfRPCsAreFailures(t *testing.T) {
	var got resilience.Outcome
	m := open(t, zerohop.Config{Resolver: fakes(1), Hooks: zerohop.Hooks{
		AttemptDone: func(_ context.Context, _ zerohop.CallInfo, _ zerohop.AttemptInfo, r zerohop.AttemptResult) {
			got = r.Outcome
		},
	}})
	tr := NewTransport(m, roundTrip(func(req *http.Request) (*http.Response, error) {
		resp := rpcAnswer(200, "", "Content-Type", "application/grpc")
		resp.Body, resp.Request = http.NoBody, req
		return resp, nil
	}))
	resp, err := tr.RoundTrip(unary(t, "application/grpc"))
	read(t, resp, err)
	if got != resilience.Failure {
		t.Errorf("outcome = %v, want a failure", got)
	}
}

func TestStreamsOutliveTheAttemptTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, zerohop.Config{Resolver: fakes(1), Spec: zerohop.Spec{Defaults: zerohop.Policy{AttemptTimeout: time.Second}}})
		tr := NewTransport(m, roundTrip(func(req *http.Request) (*http.Response, error) {
			resp := rpcAnswer(200, "", "Content-Type", "application/grpc")
			resp.Body = &dribble{strings.NewReader(message), time.Minute, make(chan struct{})}
			return resp, nil
		}))
		for _, contentType := range []string{"application/grpc", "application/connect+proto"} {
			resp, err := tr.RoundTrip(unary(t, contentType))
			if got := read(t, resp, err); got != message {
				t.Errorf("%s: body = %q, want %q", contentType, got, message)
			}
		}
	})
}

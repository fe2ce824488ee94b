package httpmesh

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

func TestBackups(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", 32<<10) // 512 KiB
	panics := func(*http.Request) (*http.Response, error) { panic("boom") }
	for _, c := range []struct {
		name     string
		method   string
		nodes    int
		policy   zerohop.Policy
		deadline time.Duration
		attempts []roundTrip
		status   int // 0: error
		body     string
		is       error
		took     time.Duration
	}{
		{"hung", "GET", 2, zerohop.Policy{}, 0, []roundTrip{hang, answer(200, large)}, 200, large, nil, time.Second},
		{"hung, with a deadline", "GET", 2, zerohop.Policy{}, time.Second, []roundTrip{hang, answer(200, large)}, 200, large, nil, time.Second / 2},
		{"first wins", "GET", 2, zerohop.Policy{}, 0, []roundTrip{after(1200*time.Millisecond, answer(200, large)), hang}, 200, large, nil, 1200 * time.Millisecond},
		{"POST", "POST", 2, zerohop.Policy{}, 0, []roundTrip{after(3*time.Second, answer(200, "ok"))}, 200, "ok", nil, 3 * time.Second},
		{"one node", "GET", 1, zerohop.Policy{}, 0, []roundTrip{after(3*time.Second, answer(200, "ok"))}, 200, "ok", nil, 3 * time.Second},
		{"off", "GET", 2, zerohop.Policy{Backup: zerohop.Backup{Mode: zerohop.Off}}, 0, []roundTrip{after(3*time.Second, answer(200, "ok"))}, 200, "ok", nil, 3 * time.Second},
		{"backup 503, first succeeds", "GET", 2, zerohop.Policy{}, 0, []roundTrip{after(1200*time.Millisecond, answer(200, "ok")), answer(503, "busy")}, 200, "ok", nil, 1200 * time.Millisecond},
		{"first 503, backup succeeds", "GET", 2, zerohop.Policy{}, 0, []roundTrip{after(1200*time.Millisecond, answer(503, "busy")), after(time.Second, answer(200, large))}, 200, large, nil, 2 * time.Second},
		{"both 503", "GET", 2, zerohop.Policy{Retry: zerohop.Retry{Attempts: 2}}, 0, []roundTrip{after(1200*time.Millisecond, answer(503, "a")), after(time.Second, answer(503, "b"))}, 503, "b", nil, 2 * time.Second},
		{"both reset", "GET", 2, zerohop.Policy{Retry: zerohop.Retry{Attempts: 2}}, 0, []roundTrip{after(1200*time.Millisecond, fail(errReset)), after(time.Second, fail(errReset))}, 0, "", errReset, 2 * time.Second},
		{"backup panics", "GET", 2, zerohop.Policy{}, 0, []roundTrip{after(1200*time.Millisecond, answer(200, "ok")), panics}, 200, "ok", nil, 1200 * time.Millisecond},
		{"all hang", "GET", 3, zerohop.Policy{Timeout: 3 * time.Second}, 0, []roundTrip{hang, hang, hang}, 0, "", context.DeadlineExceeded, 3 * time.Second},
		{"attempt timeout", "GET", 2, zerohop.Policy{AttemptTimeout: 100 * time.Millisecond, Retry: zerohop.Retry{Base: 1, Max: 1}}, 0, []roundTrip{hang, answer(200, large)}, 200, large, nil, 100 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := open(t, zerohop.Config{Resolver: fakes(c.nodes), Spec: zerohop.Spec{Defaults: c.policy}})
				ctx := t.Context()
				if c.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.deadline)
					defer cancel()
				}
				base := inTurn(c.attempts...)
				start := time.Now()
				req := request(ctx, t, c.method, "http://orders/", nil)
				resp, err := NewTransport(m, base).RoundTrip(req)
				if took := time.Since(start); took < c.took || took > c.took+time.Millisecond {
					t.Errorf("RoundTrip took %v, want %v", took, c.took)
				}
				synctest.Wait() // losers are cancelled before the body is read
				if c.status == 0 {
					if failure(t, err); !errors.Is(err, c.is) {
						t.Errorf("error = %v, want %v", err, c.is)
					}
				} else if got := read(t, resp, err); got != c.body || resp.StatusCode != c.status {
					t.Errorf("answer = %d, %d bytes, want %d, %d bytes", resp.StatusCode, len(got), c.status, len(c.body))
				}
				if len(base.addrs) != len(c.attempts) || len(base.addrs) > 1 && base.addrs[0] == base.addrs[1] {
					t.Errorf("attempts went to %v, want %d nodes", base.addrs, len(c.attempts))
				}
				checkIdle(t, m)
			})
		})
	}
}

func TestTimeoutsAndBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(req *http.Request) (*http.Response, error) {
			resp, err := answer(200, "slow")(req)
			resp.Body.(*fakeBody).Reader = readerFunc(func(p []byte) (int, error) {
				select {
				case <-time.After(10 * time.Second):
					return 0, io.EOF
				case <-req.Context().Done():
					return 0, req.Context().Err()
				}
			})
			return resp, err
		}
		for _, c := range []struct {
			name   string
			policy zerohop.Policy
			is     error
			took   time.Duration
		}{
			{"none", zerohop.Policy{}, nil, 10 * time.Second},
			{"of an attempt", zerohop.Policy{AttemptTimeout: time.Second}, nil, 10 * time.Second},
			{"of the call", zerohop.Policy{Timeout: time.Second}, context.DeadlineExceeded, time.Second},
		} {
			m := open(t, zerohop.Config{Resolver: fakes(1), Spec: zerohop.Spec{Defaults: c.policy}})
			start := time.Now()
			resp, err := get(t.Context(), t, NewTransport(m, roundTrip(slow)), "http://orders/")
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.ReadAll(resp.Body)
			if took := time.Since(start); !errors.Is(err, c.is) || took != c.took {
				t.Errorf("timeout %s: body ended with %v after %v, want %v after %v", c.name, err, took, c.is, c.took)
			}
			checkIdle(t, m)
			resp.Body.Close()
			m.Close()
		}
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// The answer comes at the very moment at which the attempt timeout passes: either it counts and can be read, or it
// does not count.
func TestAnswerInTimeCanBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, zerohop.Config{Resolver: fakes(2), Spec: zerohop.Spec{Defaults: zerohop.Policy{
			AttemptTimeout: time.Second, Retry: zerohop.Retry{Attempts: 1},
		}}})
		deaf := func(req *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return answer(200, "ok")(req)
		}
		for range 200 {
			resp, err := get(t.Context(), t, NewTransport(m, roundTrip(deaf)), "http://orders/")
			if err != nil {
				if e := failure(t, err); !e.Timeout() {
					t.Fatalf("error = %+v, want a timeout", e)
				}
				continue
			}
			if got := read(t, resp, err); got != "ok" {
				t.Fatalf("body = %q", got)
			}
		}
		checkIdle(t, m)
	})
}

// An answer that is not wanted any more gets 50 ms to end.
func TestEndlessAnswerIsDiscarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, zerohop.Config{Resolver: fakes(2), Spec: zerohop.Spec{Defaults: zerohop.Policy{Retry: zerohop.Retry{Attempts: 2, Base: 1, Max: 1}}}})
		endless := func(req *http.Request) (*http.Response, error) {
			r, _ := io.Pipe()
			return &http.Response{StatusCode: 503, Status: "503 busy", Body: r}, nil
		}
		start := time.Now()
		resp, err := get(t.Context(), t, NewTransport(m, inTurn(endless, answer(200, "ok"))), "http://orders/")
		if got := read(t, resp, err); got != "ok" || time.Since(start) != drainTime {
			t.Errorf("answer = %q after %v, want ok after %v", got, time.Since(start), drainTime)
		}
		_, err = get(t.Context(), t, NewTransport(m, inTurn(endless, fail(errReset))), "http://orders/")
		e := failure(t, err)
		if len(e.Attempts) != 2 || e.Attempts[0].Status != 503 || !errors.Is(err, errReset) {
			t.Errorf("error = %+v, want both attempts", e)
		}
		checkIdle(t, m)
	})
}

// The answer ends at the moment when there is no more time to read it. Of interest to the race detector.
func TestAnswerThatEndsJustInTimeIsDiscarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, zerohop.Config{Resolver: fakes(2), Spec: zerohop.Spec{Defaults: zerohop.Policy{Retry: zerohop.Retry{Attempts: 2, Base: 1, Max: 1}}}})
		slow := func(*http.Request) (*http.Response, error) {
			body := readerFunc(func([]byte) (int, error) { time.Sleep(drainTime); return 0, io.EOF })
			return &http.Response{StatusCode: 503, Status: "503 busy", Body: io.NopCloser(body)}, nil
		}
		for range 3 {
			resp, err := get(t.Context(), t, NewTransport(m, inTurn(slow, answer(200, "ok"))), "http://orders/")
			if got := read(t, resp, err); got != "ok" {
				t.Errorf("answer = %q, want ok", got)
			}
		}
		checkIdle(t, m)
	})
}

func TestPanicOfTheBaseReachesTheCaller(t *testing.T) {
	m := open(t, zerohop.Config{Resolver: fakes(2)})
	defer func() {
		if p := recover(); p != "boom" {
			t.Errorf("recovered %v, want boom", p)
		}
		checkIdle(t, m)
	}()
	_, _ = get(t.Context(), t, NewTransport(m, roundTrip(func(*http.Request) (*http.Response, error) { panic("boom") })), "http://orders/")
}

// When the call is over its request is the caller's again, although a backup may not have come to its end.
func TestRequestIsTheCallersAfterTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, zerohop.Config{Resolver: fakes(2)})
		seen := make(chan string, 1)
		deaf := func(req *http.Request) (*http.Response, error) {
			time.Sleep(10 * time.Second)
			seen <- req.Header.Get("X") + req.URL.Path
			return nil, errReset
		}
		req := request(t.Context(), t, "GET", "http://orders/old", nil)
		req.Header.Set("X", "old")
		resp, err := NewTransport(m, inTurn(after(1200*time.Millisecond, answer(200, "")), deaf)).RoundTrip(req)
		read(t, resp, err)
		req.Header.Set("X", "new")
		req.URL.Path = "/new"
		if got := <-seen; got != "old/old" {
			t.Errorf("backup saw %q, want the request as it was", got)
		}
	})
}

func TestBackupThatComesTooLateLeavesTheRequestAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		req := request(t.Context(), t, "GET", "http://orders/", nil)
		for range 300 {
			m := open(t, zerohop.Config{Resolver: fakes(2)}) // which has not learned yet how long answers take
			// The first attempt ends when the backup begins: the race detector sees a backup that reads the
			// request when it is the caller's again.
			base := inTurn(after(time.Second, answer(200, "ok")), answer(200, "ok"))
			resp, err := NewTransport(m, base).RoundTrip(req)
			read(t, resp, err)
			req.Header.Set("X", "new")
			req.URL.Path += "/"
			synctest.Wait()
			checkIdle(t, m)
			m.Close()
		}
	})
}

func TestHooksSeeEveryEndOfABody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls, attempts []resilience.Outcome
		m := open(t, zerohop.Config{Resolver: fakes(1), Hooks: zerohop.Hooks{
			CallDone: func(_ context.Context, _ zerohop.CallInfo, r zerohop.CallResult) { calls = append(calls, r.Outcome) },
			AttemptDone: func(_ context.Context, _ zerohop.CallInfo, _ zerohop.AttemptInfo, r zerohop.AttemptResult) {
				attempts = append(attempts, r.Outcome)
			},
		}})
		broken := func(req *http.Request) (*http.Response, error) {
			resp, err := answer(200, "x")(req)
			resp.Body.(*fakeBody).Reader = io.MultiReader(strings.NewReader("x"), readerFunc(func([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }))
			return resp, err
		}
		for _, c := range []struct {
			name string
			base roundTrip
			end  func(resp *http.Response, cancel func())
			want resilience.Outcome
		}{
			{"EOF", answer(200, "x"), func(r *http.Response, _ func()) { _, _ = io.Copy(io.Discard, r.Body) }, resilience.Success},
			{"early Close", answer(200, "x"), func(r *http.Response, _ func()) { _, _ = r.Body.Read(make([]byte, 1)); r.Body.Close() }, resilience.Success},
			{"Close unread", answer(200, "x"), func(r *http.Response, _ func()) { r.Body.Close() }, resilience.Success},
			{"Read after Close", answer(200, "x"), func(r *http.Response, _ func()) { r.Body.Close(); _, _ = r.Body.Read(make([]byte, 1)) }, resilience.Success},
			{"cancel", answer(200, "x"), func(r *http.Response, cancel func()) { cancel(); _, _ = io.Copy(io.Discard, r.Body) }, resilience.Neutral},
			{"broken", broken, func(r *http.Response, _ func()) { _, _ = io.Copy(io.Discard, r.Body) }, resilience.Failure},
			{"no body", func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 204, Body: http.NoBody}, nil
			}, func(*http.Response, func()) {}, resilience.Success},
			{"nil body", func(*http.Request) (*http.Response, error) { return &http.Response{StatusCode: 500}, nil }, func(*http.Response, func()) {}, resilience.Failure},
		} {
			calls, attempts = nil, nil
			ctx, cancel := context.WithCancel(t.Context())
			resp, err := get(ctx, t, NewTransport(m, c.base), "http://orders/")
			if err != nil {
				t.Fatal(err)
			}
			c.end(resp, cancel)
			if resp.Body != nil {
				resp.Body.Close()
				resp.Body.Close()
			}
			cancel()
			if len(calls) != 1 || calls[0] != c.want || len(attempts) != 1 || attempts[0] != c.want {
				t.Errorf("%s: calls ended %v, attempts %v, want one %v each", c.name, calls, attempts, c.want)
			}
			checkIdle(t, m)
		}
	})
}

// The servers are real ones but for their connections, so that the moments can be compared exactly.
func TestLosersAreCancelledAtOnce(t *testing.T) {
	overBoth(t, func(t *testing.T, protocols *http.Protocols) {
		synctest.Test(t, func(t *testing.T) {
			l := newPipes()
			var calls atomic.Int32
			gone := make(chan time.Time, 1)
			s := &http.Server{Protocols: protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if calls.Add(1) == 1 {
					<-r.Context().Done()
					gone <- time.Now()
					return
				}
				time.Sleep(500 * time.Millisecond)
				w.Header().Set("Content-Length", "2")
				w.(http.Flusher).Flush() // the head wins
				time.Sleep(time.Hour)
				_, _ = io.WriteString(w, "ok")
			})}
			go s.Serve(l)
			defer s.Close()
			var ends []resilience.Outcome
			m := open(t, zerohop.Config{Resolver: fakes(2), Hooks: zerohop.Hooks{
				AttemptDone: func(_ context.Context, _ zerohop.CallInfo, _ zerohop.AttemptInfo, r zerohop.AttemptResult) {
					ends = append(ends, r.Outcome)
				},
			}})
			tr := NewTransport(m, &http.Transport{DialContext: l.dial, Protocols: protocols})
			start := time.Now()
			resp, err := get(t.Context(), t, tr, "http://orders/")
			won := time.Now()
			if took := won.Sub(start); took != 1500*time.Millisecond { // a backup after 1 s
				t.Errorf("answer after %v, want that of the backup", took)
			}
			if lost := <-gone; lost != won {
				t.Errorf("the loser was cancelled %v after the answer, want at once", lost.Sub(won))
			}
			if got := read(t, resp, err); got != "ok" {
				t.Errorf("answer = %q", got)
			}
			if want := []resilience.Outcome{resilience.Neutral, resilience.Success}; !slices.Equal(ends, want) {
				t.Errorf("attempts ended as %v, want %v", ends, want)
			}
			checkIdle(t, m)
			m.Close()
		})
	})
}

// How long an event stream takes to begin depends on when there is an event.
func TestEventStreamsAreOpenedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, zerohop.Config{Resolver: fakes(2)})
		base := inTurn(after(time.Minute, answer(200, "data: 1\n\n")))
		req := request(t.Context(), t, "GET", "http://orders/", nil)
		req.Header.Set("Accept", "text/event-stream")
		resp, err := NewTransport(m, base).RoundTrip(req)
		if got := read(t, resp, err); got != "data: 1\n\n" || len(base.addrs) != 1 {
			t.Errorf("stream = %q from %v, want it from one endpoint", got, base.addrs)
		}
	})
}

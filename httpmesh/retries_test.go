package httpmesh

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// counting starts a server that knows how many connections it had and has.
func counting(t testing.TB, h http.HandlerFunc) (s *httptest.Server, opened, open *atomic.Int32) {
	t.Helper()
	opened, open = new(atomic.Int32), new(atomic.Int32)
	s = httptest.NewUnstartedServer(h)
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		switch st {
		case http.StateNew:
			opened.Add(1)
			open.Add(1)
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s, opened, open
}

func TestRetriesLeaveNothingOpen(t *testing.T) {
	var n atomic.Int32
	s, _, connected := counting(t, func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1)%3 != 0 {
			w.WriteHeader(503)
		}
		_, _ = io.WriteString(w, strings.Repeat("x", 1000))
	})
	m := open(t, zerohop.Config{Resolver: source(addr(s)), Spec: zerohop.Spec{Defaults: eager}})
	nodes(t, m) // starts discovery
	before := goleak.IgnoreCurrent()
	tr := client(t, m)
	for range 50 {
		resp, err := get(t.Context(), t, tr, "http://orders/")
		if read(t, resp, err); resp.StatusCode != 200 {
			t.Errorf("status = %d, want 200", resp.StatusCode)
		}
	}
	if got := n.Load(); got != 150 {
		t.Errorf("server got %d requests, want 150", got)
	}
	if got := connected.Load(); got > 3 {
		t.Errorf("%d connections are open, want at most 3", got)
	}
	tr.CloseIdleConnections()
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}

func TestRetriesShareTheOnlyConnection(t *testing.T) {
	var n atomic.Int32
	s, _, _ := counting(t, func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1)%2 == 0 {
			w.WriteHeader(503)
		}
		_, _ = io.WriteString(w, strings.Repeat("x", 1000))
	})
	m := open(t, zerohop.Config{Resolver: source(addr(s)), Spec: zerohop.Spec{Defaults: eager}})
	tr := NewTransport(m, &http.Transport{MaxConnsPerHost: 1})
	t.Cleanup(tr.CloseIdleConnections)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() {
			for range 10 {
				resp, err := get(ctx, t, tr, "http://orders/")
				read(t, resp, err)
			}
		})
	}
	callers.Wait()
	checkIdle(t, m)
}

func TestWhatIsSentAgain(t *testing.T) {
	for _, c := range []struct {
		method, key string
		code        int
		want        int32
	}{
		{"POST", "", 500, 1}, {"POST", "", 503, 1}, {"POST", "1", 503, 3}, {"POST", "1", 500, 1}, {"PUT", "", 503, 3},
		{"PUT", "", 500, 1}, {"GET", "", 502, 3}, {"GET", "", 501, 1}, {"GET", "", 404, 1}, {"GET", "", 302, 1},
	} {
		var n atomic.Int32
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if body, err := io.ReadAll(r.Body); string(body) != "payload" || err != nil {
				t.Errorf("%s %d: server got %q, %v", c.method, c.code, body, err)
			}
			w.WriteHeader(c.code)
			fmt.Fprint(w, "answer ", n.Add(1))
		})
		m := open(t, zerohop.Config{Resolver: source(addr(s)), Spec: zerohop.Spec{Defaults: eager}})
		tr := client(t, m)
		for _, copies := range []bool{true, false} {
			n.Store(0)
			req := request(t.Context(), t, c.method, "http://orders/", strings.NewReader("payload"))
			if !copies {
				req.GetBody = nil
			}
			if c.key != "" {
				req.Header.Set("Idempotency-Key", c.key)
			}
			resp, err := tr.RoundTrip(req)
			if got, want := read(t, resp, err), fmt.Sprint("answer ", c.want); got != want || resp.StatusCode != c.code || n.Load() != c.want {
				t.Errorf("%s with key %q, GetBody %v: %d attempts, answer %d %q, want %d, %d %q", c.method, c.key, copies, n.Load(), resp.StatusCode, got, c.want, c.code, want)
			}
		}
	}
}

// Nothing was read of it, so it can be sent elsewhere, even a POST as it comes.
func TestStreamsAreSentElsewhereIfTheyWereNotSent(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, " ", err)
	})
	m := open(t, zerohop.Config{Resolver: source(addr(s), closedAddr(t), closedAddr(t))})
	tr := client(t, m)
	for i := range 30 {
		body := &strictBody{t: t, content: []byte(strings.Repeat("x", 100_000+i)), chunk: 10_000, end: io.EOF}
		resp, err := tr.RoundTrip(request(t.Context(), t, "POST", "http://orders/", body))
		if got, want := read(t, resp, err), fmt.Sprint(100_000+i, " ", nil); got != want {
			t.Errorf("server got %s, want %s", got, want)
		}
		if got := body.closed.Load(); got != 1 {
			t.Errorf("body closed %d times, want once", got)
		}
	}
	if got := tr.Stats(); got != (Stats{}) {
		t.Errorf("Stats() = %+v, want zeros", got)
	}
}

// A source that is silent is not waited for when there is an answer.
func TestAnswersToBodiesThatHangAreReturned(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close") // else net/http reads the body before it answers
		http.Error(w, "busy", http.StatusServiceUnavailable)
	})
	m := open(t, zerohop.Config{Resolver: source(addr(s)), Spec: zerohop.Spec{Defaults: eager}})
	tr := client(t, m)
	body, w := io.Pipe()
	start := time.Now()
	ctx, report := zerohop.WithReport(t.Context())
	resp, err := tr.RoundTrip(request(ctx, t, "PUT", "http://orders/", body))
	if got := read(t, resp, err); resp.StatusCode != 503 || got != "busy\n" {
		t.Errorf("answer = %d %q, want that of the server", resp.StatusCode, got)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("RoundTrip took %v", took)
	}
	if got := tr.Stats().Unrepeated; got != 1 {
		t.Errorf("Stats().Unrepeated = %d, want 1", got)
	}
	if got := report.Calls()[0].Detail; got != resilience.Unrepeatable {
		t.Errorf("the call ended because it was %v, want %v", got, resilience.Unrepeatable)
	}
	w.Close()
}

func TestCancelledCallsLeaveTheBreakerClosed(t *testing.T) {
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	m := open(t, zerohop.Config{Resolver: source(addr(s)), Spec: zerohop.Spec{Defaults: zerohop.Policy{Breaker: zerohop.Breaker{Mode: zerohop.On}}}})
	tr := client(t, m)
	var calls sync.WaitGroup
	for i := range 100 {
		calls.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			time.AfterFunc(time.Duration(i%10)*time.Millisecond, cancel)
			_, err := get(ctx, t, tr, "http://orders/")
			failure(t, err)
		})
	}
	calls.Wait()
	if n := nodes(t, m)[0]; n.BreakerState(time.Now()) != "closed" || n.Penalized(time.Now()) {
		t.Errorf("breaker is %s, node is avoided: %v, want closed, false", n.BreakerState(time.Now()), n.Penalized(time.Now()))
	}
	checkIdle(t, m)
}

func TestTheLastAnswerIsTheCallers(t *testing.T) {
	var n atomic.Int32
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		i := n.Add(1)
		w.Header().Set("Number", fmt.Sprint(i))
		w.WriteHeader(503)
		fmt.Fprint(w, strings.Repeat(fmt.Sprint(i), 100_000))
	})
	m := open(t, zerohop.Config{Resolver: source(addr(s)), Spec: zerohop.Spec{Defaults: eager}})
	resp, err := get(t.Context(), t, client(t, m), "http://orders/")
	if got := read(t, resp, err); got != strings.Repeat("3", 100_000) || resp.Header.Get("Number") != "3" {
		t.Errorf("answer %s has %d bytes like %.5q, want the whole third one", resp.Header.Get("Number"), len(got), got)
	}
}

func TestErrorsTellOfAnswersThatWereDiscarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, zerohop.Config{Resolver: fakes(2), Spec: zerohop.Spec{Defaults: eager}})
		req := request(t.Context(), t, "PUT", "http://orders/", strings.NewReader("x"))
		req.GetBody = func() (io.ReadCloser, error) { return nil, io.ErrNoProgress }
		_, err := NewTransport(m, inTurn(answer(503, strings.Repeat("x", drainLimit+1)))).RoundTrip(req)
		if e := failure(t, err); e.Attempts[0].Status != 503 || !strings.Contains(e.Error(), "Service Unavailable") {
			t.Errorf("error = %v, %+v, want one that tells of the 503", e, e.Attempts)
		}
	})
}

func TestServersThatWantNoRetryGetNone(t *testing.T) {
	for _, c := range []struct {
		header string
		want   int
	}{{"1", 1}, {"", 3}} {
		synctest.Test(t, func(t *testing.T) {
			m := open(t, zerohop.Config{Resolver: fakes(3)})
			busy := answer(503, "busy", NoRetryHeader, c.header)
			base := inTurn(busy, busy, busy)
			resp, err := get(t.Context(), t, NewTransport(m, base), "http://orders/")
			if got := read(t, resp, err); got != "busy" || len(base.addrs) != c.want {
				t.Errorf("%s %q: answer %q after %d attempts, want %d", NoRetryHeader, c.header, got, len(base.addrs), c.want)
			}
		})
	}
}

func TestHedgesCutTheTail(t *testing.T) {
	const least = 20 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		var slow atomic.Bool
		gone := make(chan time.Duration, 1)
		large := strings.Repeat("0123456789abcdef", 32<<10)
		_, base := pipeServer(t, func(w http.ResponseWriter, r *http.Request) {
			if slow.Swap(false) {
				start := time.Now()
				<-r.Context().Done()
				gone <- time.Since(start)
				return
			}
			time.Sleep(time.Millisecond)
			_, _ = io.WriteString(w, large)
		})
		var mu sync.Mutex
		var ends []zerohop.AttemptResult
		m := open(t, zerohop.Config{
			Resolver: fakes(2),
			Spec:     zerohop.Spec{Defaults: zerohop.Policy{Backup: zerohop.Backup{Quantile: 0.95, Factor: 1, Min: least}}},
			Hooks: zerohop.Hooks{AttemptDone: func(_ context.Context, _ zerohop.CallInfo, _ zerohop.AttemptInfo, r zerohop.AttemptResult) {
				mu.Lock()
				defer mu.Unlock()
				ends = append(ends, r)
			}},
		})
		tr := NewTransport(m, base)
		for range 30 { // learns the usual latency
			resp, err := get(t.Context(), t, tr, "http://orders/")
			read(t, resp, err)
		}
		ends = nil
		slow.Store(true)
		start := time.Now()
		resp, err := get(t.Context(), t, tr, "http://orders/")
		if took, want := time.Since(start), least+time.Millisecond; took != want {
			t.Errorf("answer after %v, want that of the hedge after %v", took, want)
		}
		if hung, want := <-gone, least+time.Millisecond; hung != want {
			t.Errorf("the loser was cancelled %v after it began, want %v, when the answer came", hung, want)
		}
		if got := read(t, resp, err); got != large {
			t.Errorf("the winner's body has %d bytes, want %d", len(got), len(large))
		}
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if len(ends) != 2 || ends[0].Outcome+ends[1].Outcome != resilience.Neutral+resilience.Success {
			t.Errorf("attempts ended as %+v, want a success and a neutral one", ends)
		}
	})
}

func TestSlowSuccessBeatsFastFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		_, base := pipeServer(t, func(w http.ResponseWriter, _ *http.Request) {
			if calls.Add(1) == 1 {
				time.Sleep(5 * time.Second) // the backup fails long before
				fmt.Fprint(w, "ok")
				return
			}
			http.Error(w, "busy", http.StatusServiceUnavailable)
		})
		m := open(t, zerohop.Config{Resolver: fakes(2), Spec: zerohop.Spec{Defaults: zerohop.Policy{Retry: zerohop.Retry{Attempts: 2}}}})
		resp, err := get(t.Context(), t, NewTransport(m, base), "http://orders/")
		if got := read(t, resp, err); got != "ok" || calls.Load() != 2 {
			t.Errorf("answer = %q after %d attempts, want the slow one of two", got, calls.Load())
		}
	})
}

// A certificate that is wrong will be wrong in a microsecond, too.
func TestTheOnlyEndpointIsNotTriedThriceAtOnce(t *testing.T) {
	wrong := &tls.CertificateVerificationError{Err: x509.HostnameError{}}
	for nodes, want := range map[int]bool{1: true, 2: true, 3: false} {
		synctest.Test(t, func(t *testing.T) {
			m := open(t, zerohop.Config{Resolver: fakes(nodes), Rand: func() uint64 { return math.MaxUint64 }})
			var times []time.Time
			failing := func(*http.Request) (*http.Response, error) {
				times = append(times, time.Now())
				return nil, wrong
			}
			_, err := get(t.Context(), t, NewTransport(m, inTurn(failing, failing, failing)), "http://orders/")
			if e := failure(t, err); e.Sent || len(times) != 3 || !errors.As(err, &wrong) {
				t.Errorf("%d endpoints: error = %+v after %d attempts, want three that were not sent", nodes, e, len(times))
			}
			if got := times[2].Sub(times[1]); (got > 0) != want || times[1] != times[0] {
				t.Errorf("%d endpoints: pause of %v before the third attempt, want one: %v", nodes, got, want)
			}
		})
	}
}

func TestUploadsThatTheirOwnerCancelsAreNotCounted(t *testing.T) {
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	m := open(t, zerohop.Config{Resolver: source(addr(s)), Spec: zerohop.Spec{Defaults: eager}})
	tr := client(t, m)
	ctx, cancel := context.WithCancel(t.Context())
	body := &pattern{left: 1 << 30, at: 1 << 29, hold: cancel}
	_, err := tr.RoundTrip(request(ctx, t, "PUT", "http://orders/", body))
	if e := failure(t, err); e.Reason != zerohop.Ended || tr.Stats().Unrepeated != 0 {
		t.Errorf("error = %+v, Stats() = %+v, want the caller's doing and nothing counted", e, tr.Stats())
	}
}

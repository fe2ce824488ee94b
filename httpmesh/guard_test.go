package httpmesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// guarded returns a Guard that is closed with the test.
func guarded(t testing.TB, base http.RoundTripper, p zerohop.Policy) *Guard {
	t.Helper()
	g, err := NewGuard(base, zerohop.Config{Spec: zerohop.Spec{Defaults: p}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

func TestGuardRepeatsOnTheSameHostWithoutTouchingTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []string
		see := func(f roundTrip) roundTrip {
			return func(req *http.Request) (*http.Response, error) {
				body, err := io.ReadAll(req.Body)
				seen = append(seen, fmt.Sprint(req.URL, " ", req.Host, " ", req.Header, " ", string(body), err))
				return f(req)
			}
		}
		g := guarded(t, inTurn(see(fail(errors.New("reset"))), see(answer(503, "no")), see(answer(200, "yes"))), zerohop.Policy{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		req := request(ctx, t, http.MethodPut, "https://API.example.com:8443/v1?q=1", strings.NewReader("data"))
		req.Host = "virtual.example.com"
		resp, err := g.RoundTrip(req)
		if got, want := read(t, resp, err), "yes"; got != want {
			t.Errorf("answer = %q, want %q", got, want)
		}
		if len(seen) != 3 {
			t.Fatalf("base was called %d times, want 3", len(seen))
		}
		for _, got := range seen {
			if want := "https://API.example.com:8443/v1?q=1 virtual.example.com map[] data<nil>"; got != want {
				t.Errorf("base got %q, want %q", got, want)
			}
		}
		g.Close() // inside the bubble
	})
}

func TestGuardRepeatsOnlyWhatIsSafe(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	for _, c := range []struct {
		name, method string
		key          bool
		err          error
		want         int
	}{
		{"read", http.MethodGet, false, errors.New("reset"), 3},
		{"write", http.MethodPost, false, errors.New("reset"), 1},
		{"write with a key", http.MethodPost, true, errors.New("reset"), 3},
		{"write not sent", http.MethodPost, false, refused, 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			base := inTurn(fail(c.err), fail(c.err), fail(c.err))
			g := guarded(t, base, zerohop.Policy{})
			defer g.Close()
			req := request(t.Context(), t, c.method, "http://api.example.com/", strings.NewReader("x"))
			if c.key {
				req.Header.Set("Idempotency-Key", "1")
			}
			_, err := g.RoundTrip(req)
			e := failure(t, err)
			if got := len(base.addrs); got != c.want || len(e.Attempts) != c.want {
				t.Errorf("%s: %d attempts, %d of them in the error, want %d", c.name, got, len(e.Attempts), c.want)
			}
			if got, want := e.Sent, !zerohop.DialFailed(c.err); got != want || !errors.Is(err, c.err) {
				t.Errorf("%s: error = %v (sent %v), want %v (sent %v)", c.name, err, got, c.err, want)
			}
			if e.Service != "http://api.example.com" || e.Attempts[0].Addr != "api.example.com:80" {
				t.Errorf("%s: error is about %s at %s", c.name, e.Service, e.Attempts[0].Addr)
			}
		})
	}
}

func TestGuardTellsHostsOnlyWhatItIsAskedTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []http.Header
		base := roundTrip(func(req *http.Request) (*http.Response, error) {
			seen = append(seen, req.Header)
			return answer(503, "")(req)
		})
		for _, c := range []struct {
			propagate     zerohop.Switch
			time, attempt bool
		}{{zerohop.Inherit, false, false}, {zerohop.Off, false, false}, {zerohop.On, true, true}} {
			seen = nil
			g := guarded(t, base, zerohop.Policy{Propagate: c.propagate, Retry: zerohop.Retry{Attempts: 2}})
			defer g.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			resp, err := get(ctx, t, g, "http://api.example.com/")
			read(t, resp, err)
			if len(seen) != 2 {
				t.Fatalf("propagate %q: %d attempts, want 2", c.propagate, len(seen))
			}
			if got := seen[1].Get(TimeoutHeader) != ""; got != c.time {
				t.Errorf("propagate %q: time told: %v, want %v", c.propagate, got, c.time)
			}
			if got := seen[1].Get(AttemptHeader) != ""; got != c.attempt {
				t.Errorf("propagate %q: attempt told: %v, want %v", c.propagate, got, c.attempt)
			}
		}
	})
}

func TestGuardLeavesTLSAndHTTP2ToItsBase(t *testing.T) {
	var failed atomic.Bool
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if failed.CompareAndSwap(false, true) {
			w.WriteHeader(503)
		}
		fmt.Fprint(w, r.Proto)
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	client := s.Client() // trusts the server
	client.Transport = guarded(t, client.Transport, zerohop.Policy{})
	resp, err := client.Get(s.URL)
	if got, want := read(t, resp, err), "HTTP/2.0"; got != want || resp.StatusCode != 200 {
		t.Errorf("answer = %d %q, want 200 %q", resp.StatusCode, got, want)
	}
}

func TestGuardReportsWhatItsBaseSendsAgain(t *testing.T) {
	var requests atomic.Int64
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1) == 2 { // on the connection of the first
			panic(http.ErrAbortHandler)
		}
	})
	g := guarded(t, &http.Transport{}, zerohop.Policy{Retry: zerohop.Retry{Mode: zerohop.Off}})
	defer g.CloseIdleConnections()
	for i := range 2 {
		ctx, report := zerohop.WithReport(t.Context())
		resp, err := get(ctx, t, g, s.URL)
		read(t, resp, err)
		calls := report.Calls()
		if len(calls) != 1 || len(calls[0].Attempts) != 1 || calls[0].Attempts[0].Resends != i {
			t.Errorf("call %d: report = %+v, want one attempt, sent again %d times", i+1, calls, i)
		}
	}
}

func TestGuardObeysRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := guarded(t, inTurn(answer(429, "", "Retry-After", "7"), answer(200, "")), zerohop.Policy{})
		defer g.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		resp, err := get(ctx, t, g, "http://api.example.com/")
		read(t, resp, err)
		if got := time.Since(start); resp.StatusCode != 200 || got < 7*time.Second || got > 8*time.Second {
			t.Errorf("status %d after %v, want 200 after 7 s", resp.StatusCode, got)
		}
	})
}

// byHost is a base that fails for the hosts that are down.
type byHost struct {
	mu    sync.Mutex
	down  map[string]bool
	calls map[string]int
}

func (b *byHost) RoundTrip(req *http.Request) (*http.Response, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.calls == nil {
		b.calls = map[string]int{}
	}
	b.calls[req.URL.Host]++
	if b.down[req.URL.Host] {
		return answer(500, "")(req)
	}
	return answer(200, "")(req)
}

func TestGuardBreaksPerOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &byHost{down: map[string]bool{"a.example.com": true}}
		g := guarded(t, base, zerohop.Policy{
			Retry:   zerohop.Retry{Mode: zerohop.Off},
			Breaker: zerohop.Breaker{Mode: zerohop.On, Consecutive: 3, OpenFor: time.Minute},
		})
		defer g.Close()
		for i := range 10 {
			resp, err := get(t.Context(), t, g, "http://a.example.com/")
			if i < 3 {
				read(t, resp, err)
				continue
			}
			e := failure(t, err)
			if e.Reason != zerohop.Unavailable || e.Sent || len(e.Attempts) != 0 {
				t.Errorf("call %d: error = %+v, want a rejection", i+1, e)
			}
		}
		for _, url := range []string{"http://b.example.com/", "https://a.example.com/", "http://a.example.com:81/"} {
			resp, err := get(t.Context(), t, g, url)
			read(t, resp, err)
		}
		if got, want := base.calls["a.example.com"], 3+1; got != want {
			t.Errorf("the host was called %d times, want %d", got, want)
		}
		base.down = nil
		time.Sleep(2 * time.Minute)
		resp, err := get(t.Context(), t, g, "http://A.EXAMPLE.com:80/")
		if read(t, resp, err); resp.StatusCode != 200 {
			t.Errorf("status after the recovery = %d, want 200", resp.StatusCode)
		}
	})
}

func TestGuardHasPoliciesByOriginAndRoute(t *testing.T) {
	base := &byHost{down: map[string]bool{"a.example.com": true, "b.example.com": true, "c.example.com": true}}
	fast := zerohop.Retry{Base: 1, Max: 1}
	g, err := NewGuard(base, zerohop.Config{Spec: zerohop.Spec{
		Defaults: zerohop.Policy{Retry: fast},
		Services: map[string]zerohop.Policy{"https://a.example.com": {Retry: zerohop.Retry{Attempts: 5}}},
		Policies: map[string]zerohop.Policy{"once": {Retry: zerohop.Retry{Mode: zerohop.Off}}},
		Routes:   []routing.Rule{{Match: routing.Match{Service: "https://c.example.com", Path: routing.Path{Prefix: "/slow"}}, Policy: "once"}},
	}, Classify: func(call zerohop.CallInfo, r zerohop.AttemptResult, v resilience.Verdict) resilience.Verdict {
		return resilience.Verdict{Outcome: resilience.Failure, Retry: r.Status == 500} // repeat what is not by default
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for _, url := range []string{"https://a.example.com/", "https://b.example.com/", "https://c.example.com/slow"} {
		resp, err := get(t.Context(), t, g, url)
		read(t, resp, err)
	}
	for host, want := range map[string]int{"a.example.com": 5, "b.example.com": 3, "c.example.com": 1} {
		if got := base.calls[host]; got != want {
			t.Errorf("%s was called %d times, want %d", host, got, want)
		}
	}
}

func TestNewGuardNamesWhatWouldDoNothing(t *testing.T) {
	for _, c := range []struct {
		cfg  zerohop.Config
		want string // the field; empty: none
	}{
		{zerohop.Config{}, ""},
		{zerohop.Config{Spec: zerohop.Spec{Defaults: zerohop.Policy{Backup: zerohop.Backup{Mode: zerohop.Off}}}}, ""},
		{zerohop.Config{Spec: zerohop.Spec{Services: map[string]zerohop.Policy{"http://[::1]:8080": {}}}}, ""},
		{zerohop.Config{Resolver: fakes(1)}, "resolver: "},
		{zerohop.Config{Balancers: map[string]loadbalance.Builder{}}, "balancers: "},
		{zerohop.Config{Spec: zerohop.Spec{Defaults: zerohop.Policy{Balance: "random"}}}, "defaults.balance: "},
		{zerohop.Config{Spec: zerohop.Spec{Defaults: zerohop.Policy{Hash: []zerohop.HashSource{{Path: true}}}}}, "defaults.hash: "},
		{zerohop.Config{Spec: zerohop.Spec{Defaults: zerohop.Policy{Subset: 9}}}, "defaults.subset: "},
		{zerohop.Config{Spec: zerohop.Spec{Defaults: zerohop.Policy{Panic: -1}}}, "defaults.panic: "},
		{zerohop.Config{Spec: zerohop.Spec{Defaults: zerohop.Policy{OverProvisioning: 2}}}, "defaults.overProvisioning: "},
		{zerohop.Config{Spec: zerohop.Spec{Defaults: zerohop.Policy{Connect: zerohop.Connect{Warm: 1}}}}, "defaults.connect: "},
		{zerohop.Config{Spec: zerohop.Spec{Policies: map[string]zerohop.Policy{"p": {Backup: zerohop.Backup{Factor: 2}}}}}, "policies.p.backup: "},
		{zerohop.Config{Spec: zerohop.Spec{Services: map[string]zerohop.Policy{"http://a": {Backup: zerohop.Backup{Mode: zerohop.On}}}}}, "services.http://a.backup: "},
		{zerohop.Config{Spec: zerohop.Spec{Services: map[string]zerohop.Policy{"a.example.com": {}}}}, "services.a.example.com: "},
		{zerohop.Config{Spec: zerohop.Spec{Services: map[string]zerohop.Policy{"https://a:443": {}}}}, "services.https://a:443: "},
		{zerohop.Config{Spec: zerohop.Spec{Services: map[string]zerohop.Policy{"https://a/": {}}}}, "services.https://a/: "},
		{zerohop.Config{Spec: zerohop.Spec{Routes: []routing.Rule{{Match: routing.Match{Service: "a"}}}}}, "routes[0].match.service: "},
		{zerohop.Config{Spec: zerohop.Spec{Routes: []routing.Rule{{Backends: []routing.Backend{{Service: "http://a"}}}}}}, "routes[0].backends: "},
		{zerohop.Config{Spec: zerohop.Spec{Defaults: zerohop.Policy{Retry: zerohop.Retry{Attempts: 9}}}}, "defaults.retry.attempts: "},
	} {
		g, err := NewGuard(nop{}, c.cfg)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("NewGuard(%+v) = %v", c.cfg.Spec, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("NewGuard(%+v) = %v, want an error on %q", c.cfg.Spec, err, c.want)
		}
		if g != nil {
			g.Close()
		}
	}
}

func TestGuardClosesOnce(t *testing.T) {
	base := &idleCloser{}
	g := guarded(t, base, zerohop.Policy{})
	client := &http.Client{Transport: g}
	client.CloseIdleConnections()
	if base.closed != 1 {
		t.Errorf("idle connections of the base were closed %d times, want once", base.closed)
	}
	for range 2 {
		if err := g.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	}
	body := &closedBody{Reader: strings.NewReader("x")}
	_, err := g.RoundTrip(request(t.Context(), t, "POST", "http://api.example.com/", body))
	if e := failure(t, err); e.Reason != zerohop.Closed || !errors.Is(err, zerohop.ErrClosed) || !body.closed {
		t.Errorf("error after Close = %v, body closed: %v", err, body.closed)
	}
	if base.closed != 1 {
		t.Error("Close closed the connections of the base")
	}
}

type idleCloser struct {
	nop
	closed int
}

func (c *idleCloser) CloseIdleConnections() { c.closed++ }

type closedBody struct {
	io.Reader
	closed bool
}

func (b *closedBody) Close() error {
	b.closed = true
	return nil
}

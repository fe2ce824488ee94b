package httpmesh

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
)

// onto starts n servers with h and returns a Transport whose service "next" they are.
func onto(t *testing.T, n int, h http.Handler, p zerohop.Policy) *Transport {
	endpoints := make([]discovery.Endpoint, n)
	for i := range endpoints {
		endpoints[i].Addr = addr(serve(t, h.ServeHTTP))
	}
	return client(t, open(t, zerohop.Config{Resolver: discovery.Static{"next": endpoints}, Spec: zerohop.Spec{Defaults: p}}))
}

// chain starts services of n servers each on top of each other, and returns the Transport of those who call the topmost.
func chain(t *testing.T, n int, bottom http.Handler, p zerohop.Policy, hops ...func(*Transport) http.Handler) *Transport {
	top := onto(t, n, bottom, p)
	for _, hop := range slices.Backward(hops) {
		top = onto(t, n, hop(top), p)
	}
	return top
}

// caller is a service that answers with what the next one does.
func caller(next *Transport) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, err := http.NewRequestWithContext(r.Context(), "GET", "http://next/", nil)
		if err != nil {
			panic(err)
		}
		resp, err := next.RoundTrip(req)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		io.Copy(w, resp.Body)
	})
}

// gateway is a service that is nothing but a proxy of the next one.
func gateway(next *Transport) http.Handler {
	return &httputil.ReverseProxy{
		Transport: next,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: "next"})
			r.Out.Host = ""
		},
		ErrorLog: log.New(io.Discard, "", 0),
	}
}

func served(hop func(*Transport) http.Handler) func(*Transport) http.Handler {
	return func(next *Transport) http.Handler { return NewHandler(hop(next), HandlerOptions{}) }
}

// An outage at the bottom of a chain of services, each of which makes up to three attempts, is not multiplied by each
// of them.
func TestOutageIsNotMultiplied(t *testing.T) {
	const calls = 60
	var (
		off   = zerohop.Policy{Budget: zerohop.Budget{Mode: zerohop.Off}, Retry: zerohop.Retry{Base: time.Millisecond, Max: time.Millisecond}}
		on    = zerohop.Policy{Retry: off.Retry}
		deaf  = zerohop.Policy{Budget: off.Budget, Retry: off.Retry, Propagate: zerohop.Off}
		call  = served(caller)
		proxy = served(gateway)
	)
	type hops = []func(*Transport) http.Handler
	for _, tt := range []struct {
		name   string
		policy zerohop.Policy
		hops   hops
		least  float64 // calls of the bottom for each of the top
		most   float64
	}{
		{"three hops", on, hops{call, call}, 1, 1.1},
		{"five hops", on, hops{call, call, call, call}, 1, 1.1},
		{"proxies", on, hops{proxy, proxy, proxy, proxy}, 1, 1.1},
		{"three hops, by the guard alone", off, hops{call, call}, 3, 3},
		{"five hops, by the guard alone", off, hops{call, call, call, call}, 3, 3},
		{"proxies, by the guard alone", off, hops{proxy, call, proxy}, 3, 3},
		{"control: neither budget nor guard", deaf, hops{caller, caller}, 27, 27},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var bottom atomic.Int64
			top := chain(t, 1, NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				bottom.Add(1)
				http.Error(w, "down", http.StatusServiceUnavailable)
			}), HandlerOptions{}), tt.policy, tt.hops...)
			var first, half int64
			for i := range calls {
				resp, err := get(t.Context(), t, top, "http://next/")
				if got := read(t, resp, err); resp.StatusCode != 503 || got != "down\n" {
					t.Fatalf("answer %d %q, want that of the bottom", resp.StatusCode, got)
				}
				switch i {
				case 0:
					first = bottom.Load()
				case calls/2 - 1:
					half = bottom.Load()
				}
			}
			got := float64(bottom.Load()) / calls
			if got < tt.least || got > tt.most {
				t.Errorf("%v calls of the bottom for one of the top, want %v to %v", got, tt.least, tt.most)
			}
			t.Logf("calls of the bottom for one of the top: %.2f; the first %d, the second half %.2f",
				got, first, float64(bottom.Load()-half)/(calls/2))
		})
	}
}

// Backups of slow calls are not multiplied either: what is done for a backup gets none itself, all the way down. Four
// layers of three attempts make 1 + 4 x 2 calls of the bottom and not up to 81, without a budget.
func TestSlownessIsNotMultiplied(t *testing.T) {
	var slow atomic.Bool
	var bottom atomic.Int64
	top := chain(t, 3, NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		bottom.Add(1)
		if slow.Load() {
			select {
			case <-time.After(500 * time.Millisecond):
			case <-r.Context().Done():
			}
		}
	}), HandlerOptions{}), zerohop.Policy{
		Budget: zerohop.Budget{Mode: zerohop.Off},
		Backup: zerohop.Backup{Min: 20 * time.Millisecond, Quantile: 0.9, Factor: 1},
	}, served(caller), served(gateway), served(caller))
	ask := func() {
		resp, err := get(t.Context(), t, top, "http://next/")
		if read(t, resp, err); resp.StatusCode != 200 {
			t.Errorf("status %d", resp.StatusCode)
		}
	}
	for range 100 { // so that every layer learns how fast the next one is
		ask()
	}
	slow.Store(true)
	for range 3 {
		bottom.Store(0)
		ask()
		if got := bottom.Load(); got < 2 || got > 9 {
			t.Errorf("%d calls of the bottom for one of the top, want 2 to 9", got)
		} else {
			t.Logf("%d calls of the bottom for one of the top", got)
		}
	}
}

func TestDeadlineReachesTheBottom(t *testing.T) {
	const patience = 100 * time.Millisecond
	var left atomic.Int64
	top := chain(t, 1, NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, ok := r.Context().Deadline()
		if !ok {
			t.Error("no deadline")
		}
		left.Store(int64(time.Until(d)))
	}), HandlerOptions{}), zerohop.Policy{}, served(caller), served(gateway))
	// Connecting takes time, and under the race detector a lot of it.
	for _, d := range []time.Duration{10 * time.Second, patience} {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		resp, err := get(ctx, t, top, "http://next/")
		read(t, resp, err)
		if got := time.Duration(left.Load()); got <= 0 || got > d {
			t.Errorf("time left at the bottom = %v, want at most %v", got, d)
		} else {
			t.Logf("of %v, %v are left at the bottom", d, got)
		}
	}
}

// Callers who have less time than a request needs are to blame for that themselves.
func TestRefusalsForLackOfTimeBlameNobody(t *testing.T) {
	h := NewHandler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), HandlerOptions{MinTime: time.Hour})
	m := open(t, zerohop.Config{Resolver: source(addr(serve(t, h.ServeHTTP))), Spec: zerohop.Spec{Defaults: zerohop.Policy{
		Breaker: zerohop.Breaker{Mode: zerohop.On}, Budget: zerohop.Budget{Tokens: 2},
	}}})
	tr := client(t, m)
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		resp, err := get(ctx, t, tr, "http://orders/")
		if read(t, resp, err); resp.StatusCode != http.StatusGatewayTimeout {
			t.Errorf("status %d, want 504", resp.StatusCode)
		}
		cancel()
	}
	if n := nodes(t, m)[0]; n.BreakerState(time.Now()) != "closed" || n.Penalized(time.Now()) {
		t.Errorf("breaker is %s, node is avoided: %v, want closed, false", n.BreakerState(time.Now()), n.Penalized(time.Now()))
	}
}

// A server that keeps the deadline of an impatient caller answers a moment before that gives up.
func TestServersThatKeepShortDeadlinesBlameNobody(t *testing.T) {
	for _, c := range []struct {
		deadline, took time.Duration
		want           string
	}{
		{20 * time.Millisecond, 19 * time.Millisecond, "closed"},
		{20 * time.Millisecond, time.Millisecond, "open"}, // a failure like any other
		{200 * time.Millisecond, 199 * time.Millisecond, "open"},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := open(t, zerohop.Config{Resolver: fakes(1), Spec: zerohop.Spec{Defaults: zerohop.Policy{Breaker: zerohop.Breaker{Mode: zerohop.On}}}})
			for range 30 { // learns the usual latency
				resp, err := get(t.Context(), t, NewTransport(m, after(50*time.Millisecond, answer(200, "ok"))), "http://orders/")
				read(t, resp, err)
			}
			tr := NewTransport(m, after(c.took, answer(500, "out of time")))
			for range 5 {
				ctx, cancel := context.WithTimeout(t.Context(), c.deadline)
				resp, err := get(ctx, t, tr, "http://orders/")
				if got := read(t, resp, err); got != "out of time" {
					t.Errorf("answer = %q", got)
				}
				cancel()
			}
			if got := nodes(t, m)[0].BreakerState(time.Now()); string(got) != c.want {
				t.Errorf("failures after %v of %v: breaker is %s, want %s", c.took, c.deadline, got, c.want)
			}
		})
	}
}

// Work that cannot be done in time is refused where it is, and no layer repeats it.
func TestExpiredWorkIsNotDone(t *testing.T) {
	var asked, done atomic.Int64
	bottom := NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { done.Add(1) }), HandlerOptions{MinTime: time.Hour})
	top := chain(t, 1, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		bottom.ServeHTTP(w, r)
	}), zerohop.Policy{}, served(caller), served(caller))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	resp, err := get(ctx, t, top, "http://next/")
	read(t, resp, err)
	if resp.StatusCode != http.StatusGatewayTimeout || asked.Load() != 1 || done.Load() != 0 {
		t.Errorf("status %d, bottom asked %d times, worked %d times; want 504, 1, 0", resp.StatusCode, asked.Load(), done.Load())
	}
}

package httpmesh

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/routing"
)

// mirrored is a rule that copies calls of orders.
func mirrored(list ...routing.Mirror) zerohop.Spec { return routeOf(routing.Rule{Mirrors: list}) }

// shadows starts servers for orders and two mirrors, whose requests it hands on.
func shadows(t *testing.T, orders http.HandlerFunc) (discovery.Static, chan seen) {
	got := make(chan seen, 100)
	set := source(addr(serve(t, orders)))
	for _, name := range []string{"shadow", "audit"} {
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			got <- seen{name + " " + r.RequestURI, r.Host, string(body), r.Header}
			w.WriteHeader(http.StatusServiceUnavailable) // which is not repeated
			w.Write(make([]byte, 1<<20))
		})
		set[name] = []discovery.Endpoint{{Addr: addr(s), Meta: map[string]string{"v": "2"}}, {Addr: "127.0.0.1:1", Meta: map[string]string{"v": "1"}}}
	}
	return set, got
}

func TestMirrorsGetCopies(t *testing.T) {
	set, got := shadows(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	var (
		mu   sync.Mutex
		told []string
	)
	spec := mirrored(
		routing.Mirror{Service: "shadow", Select: map[string]string{"v": "2"}},
		routing.Mirror{Service: "audit", Select: map[string]string{"v": "2"}, Credentials: true},
	)
	spec.Defaults.Timeout = time.Minute
	spec.Routes[0].Rewrite = routing.Rewrite{
		Path: routing.PathRewrite{Regex: "^/v1", Replacement: "/v2"}, Request: routing.Headers{Set: map[string]string{"X-Route": "r"}},
	}
	tr := client(t, open(t, zerohop.Config{Resolver: set, Spec: spec, Hooks: zerohop.Hooks{
		CallDone: func(_ context.Context, call zerohop.CallInfo, r zerohop.CallResult) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, fmt.Sprintf("%s mirror %v attempts %d", call.Service, call.Mirror, r.Attempts))
		},
	}}))
	for name, body := range map[string]func() io.Reader{
		"none":   func() io.Reader { return nil },
		"memory": func() io.Reader { return strings.NewReader("what is paid") },
		"stream": func() io.Reader { return io.MultiReader(strings.NewReader("what is "), strings.NewReader("paid")) },
	} {
		conns := 0
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { conns++ }})
		ctx = zerohop.WithCall(ctx, zerohop.CallOptions{Node: "127.0.0.1:1"}) // is for the call alone
		ctx = zerohop.WithLane(ctx, "x")                                      // is not
		req := request(ctx, t, http.MethodPut, "http://orders/v1/a%20b?x=1", body())
		req.Header.Set("Authorization", "Bearer x")
		resp, err := tr.RoundTrip(req)
		want := read(t, resp, err)
		copies := []seen{<-got, <-got}
		slices.SortFunc(copies, func(a, b seen) int { return strings.Compare(a.uri, b.uri) })
		for i, c := range copies {
			service := []string{"audit", "shadow"}[i]
			if c.uri != service+" /v2/a%20b?x=1" || c.host != service || c.body != want || c.header.Get("Zerohop-Mirror") != "1" ||
				c.header.Get("X-Route") != "r" || c.header.Get("Baggage") != "zerohop-lane=x" || c.header.Get("Zerohop-Criticality") != "sheddable" || (c.header.Get("Authorization") != "") != (service == "audit") {
				t.Errorf("%s: copy %+v, want one of %q for %s", name, c, want, service)
			}
		}
		if conns != 1 {
			t.Errorf("%s: the trace of the caller saw %d connections, want its own", name, conns)
		}
	}
	tr.mesh.Close() // waits for the copies
	slices.Sort(told)
	if got, want := strings.Join(slices.Compact(slices.Clone(told)), "; "), "audit mirror true attempts 1; orders mirror false attempts 1; shadow mirror true attempts 1"; got != want || len(told) != 9 {
		t.Errorf("hooks were told %d times: %s, want 9 times: %s", len(told), got, want)
	}
	if s := tr.Stats(); s.Mirrored != 6 || s.Unmirrored != 0 || len(got) > 0 {
		t.Errorf("Stats() = %+v, and %d more copies came, want 6 in all", s, len(got))
	}
}

func TestRepeatedCallsAreCopiedOnce(t *testing.T) {
	var tries atomic.Int32
	set, got := shadows(t, func(w http.ResponseWriter, r *http.Request) {
		if tries.Add(1) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable) // without the body being read
			return
		}
		body, _ := io.ReadAll(r.Body)
		w.Write(body)
	})
	spec := mirrored(routing.Mirror{Service: "shadow", Select: map[string]string{"v": "2"}})
	spec.Defaults.Retry.Base = 1
	tr := client(t, open(t, zerohop.Config{Resolver: set, Spec: spec}))
	text := rand.Text() + strings.Repeat("x", 10_000)
	for _, body := range []io.Reader{strings.NewReader(text), io.MultiReader(strings.NewReader(text))} {
		tries.Store(0)
		resp, err := tr.RoundTrip(request(t.Context(), t, http.MethodPut, "http://orders/", body))
		if read(t, resp, err) != text || tries.Load() != 3 {
			t.Fatalf("status %d after %d attempts", resp.StatusCode, tries.Load())
		}
		if c := <-got; c.body != text {
			t.Errorf("the copy has %d bytes, want %d of the same", len(c.body), len(text))
		}
	}
	tr.mesh.Close()
	if len(got) > 0 {
		t.Error("there is more than one copy of a call")
	}
}

func TestWhatIsNotMirrored(t *testing.T) {
	large := routing.Mirror{Service: "shadow", MaxBody: 10}
	half := func(n int) io.Reader { return io.MultiReader(strings.NewReader(strings.Repeat("x", n))) }
	for _, c := range []struct {
		name    string
		request func(ctx context.Context) *http.Request
		orders  roundTrip
		copies  uint64
	}{
		{"as large as may be", func(ctx context.Context) *http.Request { return request(ctx, t, "PUT", "http://orders/", half(10)) }, drained, 1},
		{"too large", func(ctx context.Context) *http.Request { return request(ctx, t, "PUT", "http://orders/", half(11)) }, drained, 0},
		{"announced as too large", func(ctx context.Context) *http.Request {
			return request(ctx, t, "PUT", "http://orders/", strings.NewReader("12345678901"))
		}, drained, 0},
		{"not finished", func(ctx context.Context) *http.Request { return request(ctx, t, "PUT", "http://orders/", half(9)) }, answer(413, ""), 0},
		{"an upgrade", func(ctx context.Context) *http.Request {
			req := request(ctx, t, "GET", "http://orders/", nil)
			req.Header.Set("Upgrade", "websocket")
			return req
		}, drained, 0},
		{"a stream", func(ctx context.Context) *http.Request {
			req := request(ctx, t, "GET", "http://orders/", nil)
			req.Header.Set("Accept", "text/event-stream")
			return req
		}, drained, 0},
		{"a body that breaks off", func(ctx context.Context) *http.Request {
			return request(ctx, t, "PUT", "http://orders/", io.MultiReader(strings.NewReader("x"), broken{}))
		}, drained, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			var copies atomic.Uint64
			set := fakes(1)
			set["shadow"] = []discovery.Endpoint{{Addr: "10.1.0.1:80"}}
			tr := NewTransport(open(t, zerohop.Config{Resolver: set, Spec: mirrored(large)}), roundTrip(func(req *http.Request) (*http.Response, error) {
				if req.URL.Host == "10.1.0.1:80" {
					copies.Add(1)
					return drained(req)
				}
				return c.orders(req)
			}))
			resp, err := tr.RoundTrip(c.request(t.Context()))
			if err == nil {
				read(t, resp, nil)
			}
			synctest.Wait()
			tr.mesh.Close()
			if s := tr.Stats(); copies.Load() != c.copies || s.Mirrored != c.copies || s.Unmirrored != 1-c.copies {
				t.Errorf("%s: %d copies, %+v, want %d", c.name, copies.Load(), s, c.copies)
			}
		})
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("source is gone") }

// drained answers when it has read the body.
func drained(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close()
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return nil, err
		}
	}
	return answer(200, "")(req)
}

func TestHungMirrorsCostCallsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := fakes(1)
		set["shadow"] = []discovery.Endpoint{{Addr: "10.1.0.1:80"}}
		var mu sync.Mutex
		copies := 0
		spec := mirrored(routing.Mirror{Service: "shadow", MaxInFlight: 20, Timeout: 3 * time.Second})
		spec.Services = map[string]zerohop.Policy{"shadow": {
			RateLimit: zerohop.RateLimit{Mode: zerohop.On, Rate: 1}, Limit: zerohop.Limit{Mode: zerohop.On, Max: 1}, Timeout: time.Hour,
		}}
		m := open(t, zerohop.Config{Resolver: set, Spec: spec})
		tr := NewTransport(m, roundTrip(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host != "10.1.0.1:80" {
				return drained(req)
			}
			mu.Lock()
			copies++
			panics := copies%10 == 0
			mu.Unlock()
			if panics {
				panic("boom")
			}
			return hang(req)
		}))
		call := func() {
			resp, err := tr.RoundTrip(request(t.Context(), t, http.MethodPost, "http://orders/", io.MultiReader(strings.NewReader("x"))))
			read(t, resp, err)
		}
		call()
		synctest.Wait()
		before, start := runtime.NumGoroutine(), time.Now()
		for range 1000 {
			call()
		}
		if d := time.Since(start); d > 0 {
			t.Errorf("calls beside a hung mirror took %v, want nothing", d)
		}
		if n := runtime.NumGoroutine(); n > before+2*20 {
			t.Errorf("%d goroutines, %d before the calls", n, before)
		}
		if s := tr.Stats(); s.Mirrored+s.Unmirrored != 1001 || s.Mirrored < 20 || s.Unmirrored < 900 {
			t.Errorf("Stats() = %+v, want 20 copies and a few for those that panicked", s)
		}
		time.Sleep(3 * time.Second) // is what they have
		synctest.Wait()
		if n := runtime.NumGoroutine(); n > before {
			t.Errorf("%d goroutines when the time of the copies is up, %d before", n, before)
		}
		was := tr.Stats().Mirrored
		call()
		if tr.Stats().Mirrored != was+1 {
			t.Error("a place is not given back")
		}
		start = time.Now()
		m.Close()
		if d := time.Since(start); d > 0 {
			t.Errorf("Close waited for copies for %v", d)
		}
	})
}

// A real server that takes connections and never answers, under load: calls go on as fast, with bounded memory and goroutines.
func TestFrozenMirrorUnderLoad(t *testing.T) {
	freeze := make(chan struct{})
	frozen := serve(t, func(http.ResponseWriter, *http.Request) { <-freeze })
	orders := serve(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	t.Cleanup(func() { close(freeze) })
	set := source(addr(orders))
	set["shadow"] = []discovery.Endpoint{{Addr: addr(frozen)}}
	m := open(t, zerohop.Config{Resolver: set, Spec: mirrored(routing.Mirror{Service: "shadow", MaxInFlight: 8})})
	tr := client(t, m)
	body := bytes.Repeat([]byte("x"), 32<<10)
	before := runtime.NumGoroutine()
	var (
		all   sync.WaitGroup
		mu    sync.Mutex
		times []time.Duration
		most  int
	)
	for range 8 {
		all.Go(func() {
			own := slices.Clone(body)
			for i := range 100 {
				own[0] = byte(i) // his again when the call is over
				start := time.Now()
				resp, err := tr.RoundTrip(request(t.Context(), t, http.MethodPut, "http://orders/", bytes.NewReader(own)))
				read(t, resp, err)
				mu.Lock()
				times, most = append(times, time.Since(start)), max(most, runtime.NumGoroutine())
				mu.Unlock()
			}
		})
	}
	all.Wait()
	slices.Sort(times)
	// Copies have 15 s: a call that waited for one would have taken as long.
	if p99 := times[len(times)*99/100]; p99 > 2*time.Second {
		t.Errorf("p99 = %v, want no more than without a mirror", p99)
	}
	if s := tr.Stats(); s.Mirrored != 8 || s.Unmirrored != 800-8 {
		t.Errorf("Stats() = %+v, want 8 copies", s)
	}
	// A connection has two goroutines on either side; a call or a copy has one.
	if limit := before + 8*5 + 8*6; most > limit {
		t.Errorf("%d goroutines, want at most %d", most, limit)
	}
	start := time.Now()
	m.Close()
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("Close took %v", d)
	}
}

func TestMirrorsAreSampled(t *testing.T) {
	percent := 12.5
	set := fakes(1)
	set["shadow"] = []discovery.Endpoint{{Addr: "10.1.0.1:80"}}
	m := open(t, zerohop.Config{
		Resolver: set, Rand: lockedRand(1), Spec: mirrored(routing.Mirror{Service: "shadow", Percent: &percent, MaxInFlight: 10_000}),
	})
	tr := NewTransport(m, nop{})
	const n = 4000
	req := request(t.Context(), t, http.MethodGet, "http://orders/", nil)
	for range n {
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	m.Close()
	// Four standard deviations of a binomial.
	if got, want, off := float64(tr.Stats().Mirrored), n*percent/100, 4*math.Sqrt(n*0.125*0.875); math.Abs(got-want) > off {
		t.Errorf("%v copies of %d calls, want %v within %.0f", got, n, want, off)
	}
}

func lockedRand(seed uint64) func() uint64 {
	var mu sync.Mutex
	r := mathrand.New(mathrand.NewPCG(seed, 0))
	return func() uint64 {
		mu.Lock()
		defer mu.Unlock()
		return r.Uint64()
	}
}

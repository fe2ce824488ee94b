package httpmesh

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// prequal is a mesh whose endpoints are picked by what they report, without probes.
func prequal(t testing.TB, r zerohop.Config) *zerohop.Mesh {
	t.Helper()
	r.Balancers = map[string]loadbalance.Builder{"by-report": loadbalance.PrequalConfig{Probes: -1, MaxAge: time.Hour}.Prequal}
	r.Spec.Defaults.Balance = "by-report"
	return open(t, r)
}

// chosen returns who answers most of 100 requests, and how many, when each has answered once.
func chosen(t *testing.T, rt http.RoundTripper) (best string, most int) {
	t.Helper()
	count := map[string]int{}
	for k := range 150 {
		resp, err := get(t.Context(), t, rt, "http://orders/")
		if name := read(t, resp, err); k >= 50 {
			count[name]++
		}
	}
	for name, n := range count {
		if n > most {
			best, most = name, n
		}
	}
	return best, most
}

// Answers of three servers say how busy they are, each in another way: calls go to the one that says the least.
func TestTransportPicksByReports(t *testing.T) {
	const idle, busy = "TEXT named_metrics.zerohop.inflight=1,named_metrics.zerohop.latency=0.002", "TEXT named_metrics.zerohop.inflight=9,named_metrics.zerohop.latency=0.5"
	header := func(name, value string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { w.Header().Set(name, value) }
	}
	for name, say := range map[string]func(http.ResponseWriter){
		"text":   header(LoadHeader, idle),
		"json":   header(LoadHeader, `JSON {"namedMetrics": {"zerohop.inflight": 1, "zerohop.latency": 0.002}}`),
		"binary": header(LoadHeader, "BIN QhsKEHplcm9ob3AuaW5mbGlnaHQRAAAAAAAA8D9CGgoPemVyb2hvcC5sYXRlbmN5Efyp8dJNYmA/"),
		"gRPC's": header(loadMessage, "QhsKEHplcm9ob3AuaW5mbGlnaHQRAAAAAAAA8D9CGgoPemVyb2hvcC5sYXRlbmN5Efyp8dJNYmA/"),
		"trailer": func(w http.ResponseWriter) {
			w.Header().Set("Trailer", LoadHeader)
			w.Header().Set(http.TrailerPrefix+LoadHeader, idle)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var addrs []string
			for i, s := range []func(http.ResponseWriter){header(LoadHeader, busy), say, header(LoadHeader, busy)} {
				addrs = append(addrs, addr(serve(t, func(w http.ResponseWriter, r *http.Request) {
					if r.Header.Get(WantLoadHeader) != "1" {
						t.Errorf("%s = %q, want 1", WantLoadHeader, r.Header.Get(WantLoadHeader))
					}
					s(w)
					io.WriteString(w, string(rune('0'+i)))
				})))
			}
			// Backups go elsewhere by design, and a machine that is busy makes them.
			spec := zerohop.Spec{Defaults: zerohop.Policy{Backup: zerohop.Backup{Mode: zerohop.Off}}}
			rt := client(t, prequal(t, zerohop.Config{Resolver: source(addrs...), Spec: spec}))
			if best, most := chosen(t, rt); best != "1" || most != 100 {
				t.Errorf("%d of 100 requests went to server %s, want all to server 1", most, best)
			}
		})
	}
}

// What an endpoint is asked for is for this client only.
func TestTransportKeepsReportsToItself(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(LoadHeader, "TEXT cpu_utilization=0.7")
		w.Header().Set("Trailer", LoadHeader)
		io.WriteString(w, r.Header.Get(WantLoadHeader))
		w.Header().Set(http.TrailerPrefix+LoadHeader, "TEXT cpu_utilization=0.7")
	})
	for _, tt := range []struct {
		name, asked, load string
		m                 *zerohop.Mesh
	}{
		{"used", "1", "", prequal(t, zerohop.Config{Resolver: source(addr(s))})},
		{"not used", "", "TEXT cpu_utilization=0.7", open(t, zerohop.Config{Resolver: source(addr(s))})},
	} {
		req := request(t.Context(), t, "GET", "http://orders/", nil)
		req.Header.Set(WantLoadHeader, "from elsewhere")
		resp, err := client(t, tt.m).RoundTrip(req)
		if got := read(t, resp, err); got != tt.asked {
			t.Errorf("%s: the server was asked %q, want %q", tt.name, got, tt.asked)
		}
		if got := resp.Header.Get(LoadHeader); got != tt.load {
			t.Errorf("%s: the caller gets the load %q, want %q", tt.name, got, tt.load)
		}
		if got := resp.Trailer.Get(LoadHeader); got != tt.load {
			t.Errorf("%s: the caller gets the load %q in the trailer, want %q", tt.name, got, tt.load)
		}
	}
}

// Two of three servers fail at once and so have nothing in flight, which they say.
func TestTransportIgnoresTheIdlenessOfFailures(t *testing.T) {
	var addrs []string
	var failed int
	for i := range 3 {
		addrs = append(addrs, addr(serve(t, func(w http.ResponseWriter, r *http.Request) {
			if i < 2 {
				failed++
				w.Header().Set(LoadHeader, "TEXT named_metrics.zerohop.inflight=1,named_metrics.zerohop.latency=0.001")
				w.WriteHeader(500)
				return
			}
			w.Header().Set(LoadHeader, "TEXT named_metrics.zerohop.inflight=9,named_metrics.zerohop.latency=0.05")
			io.WriteString(w, "ok")
		})))
	}
	rt := client(t, prequal(t, zerohop.Config{Resolver: source(addrs...)}))
	for range 300 {
		resp, err := get(t.Context(), t, rt, "http://orders/")
		read(t, resp, err)
	}
	if failed > 9 {
		t.Errorf("%d of 300 requests met servers that fail at once, want 9 at most", failed)
	}
}

func TestHandlerTellsItsLoadToThoseWhoAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				<-release
			}
			time.Sleep(20 * time.Millisecond)
			if r.URL.Path == "/broken" {
				w.WriteHeader(500)
			}
		}), HandlerOptions{})
		ask := func(path, want string) loadbalance.Load {
			w, r := httptest.NewRecorder(), httptest.NewRequest("GET", path, nil)
			if want != "" {
				r.Header.Set(WantLoadHeader, want)
			}
			h.ServeHTTP(w, r)
			l, _ := loadOf(w.Header())
			return l
		}
		if got := ask("/", ""); got != (loadbalance.Load{}) || h.meter.Load() != nil {
			t.Errorf("an answer that nobody asked for it says %+v, want nothing, and nothing measured", got)
		}
		if got, want := ask("/", "1"), (loadbalance.Load{InFlight: 1, Latency: 20 * time.Millisecond}); got != want {
			t.Errorf("the first answer says %+v, want %+v", got, want)
		}
		for range 4 {
			go ask("/slow", "1")
		}
		synctest.Wait()
		if got, want := ask("/", "1"), (loadbalance.Load{InFlight: 5, Latency: 20 * time.Millisecond}); got != want {
			t.Errorf("an answer with four others in flight says %+v, want %+v", got, want)
		}
		for range 50 {
			ask("/broken", "1")
		}
		if got := ask(LoadPath, "1"); got.InFlight != 5 || got.Latency != 20*time.Millisecond {
			t.Errorf("the answer to a probe says %+v, want 5 in flight and 20ms", got)
		}
		if got := h.InFlight(); got != 4 {
			t.Errorf("InFlight() = %d, want 4: probes do not count", got)
		}
		got := ask("/", "1")
		if got.Rate < 45 || got.Rate > 55 || got.Errors < 44 || got.Errors > got.Rate {
			t.Errorf("after a second of 50 failures: %+v, want about 50 requests a second that fail", got)
		}
		close(release)
		synctest.Wait()
		time.Sleep(time.Minute)
		if got := ask(LoadPath, "1"); got.InFlight != 1 || got.Latency != 0 {
			t.Errorf("a minute later: %+v, want nothing in flight but the probe, and no latency", got)
		}
	})
}

// The latency is that of requests that began with as many in flight as there are now.
func TestHandlerTellsTheLatencyAtItsLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h *Handler
		h = NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Duration(h.InFlight()) * 10 * time.Millisecond)
		}), HandlerOptions{})
		ask := func(want int) {
			w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
			r.Header.Set(WantLoadHeader, "1")
			h.ServeHTTP(w, r)
			if want == 0 {
				return
			}
			if l, _ := loadOf(w.Header()); l.InFlight != want || l.Latency != time.Duration(want)*10*time.Millisecond {
				t.Errorf("with %d in flight: %+v, want %d ms", want, l, want*10)
			}
		}
		for range 5 { // ten at a time, which end in the order in which they began
			for range 10 {
				go ask(0)
				synctest.Wait()
			}
			time.Sleep(time.Second)
		}
		for range 8 {
			ask(0)
		}
		ask(1)
		for range 4 {
			go ask(0)
			synctest.Wait()
		}
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", LoadPath, nil)
		r.Header.Set(WantLoadHeader, "1")
		h.ServeHTTP(w, r)
		if l, _ := loadOf(w.Header()); l.InFlight != 5 || l.Latency != 50*time.Millisecond {
			t.Errorf("a probe at 4 in flight: %+v, want 5 with itself and 50ms", l)
		}
		time.Sleep(time.Second)
	})
}

func TestHandlerKeepsItsLoadToItself(t *testing.T) {
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Path) })
	for _, tt := range []struct {
		o            HandlerOptions
		method, want string
		header       string
		body         string
	}{
		{HandlerOptions{Unmeasured: true}, "GET", "1", "", LoadPath},
		{HandlerOptions{}, "GET", "", "", LoadPath},
		{HandlerOptions{}, "POST", "", "", LoadPath},
		{HandlerOptions{Unmeasured: true, Load: func() LoadReport { return LoadReport{CPU: 0.5} }}, "GET", "1", "TEXT cpu_utilization=0.5", LoadPath},
		{HandlerOptions{Load: func() LoadReport { return LoadReport{CPU: 0.5} }}, "GET", "1", "TEXT cpu_utilization=0.5,named_metrics.zerohop.inflight=1", ""},
	} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(tt.method, LoadPath, nil)
		if tt.want != "" {
			r.Header.Set(WantLoadHeader, tt.want)
		}
		NewHandler(next, tt.o).ServeHTTP(w, r)
		if w.Header().Get(LoadHeader) != tt.header || w.Body.String() != tt.body {
			t.Errorf("%+v: load %q, body %q; want %q, %q", tt, w.Header().Get(LoadHeader), w.Body, tt.header, tt.body)
		}
	}
}

// Ten servers of which a client that has just started knows nothing but by probes: others keep all but one busy.
func TestProbesFindTheIdleServer(t *testing.T) {
	var addrs []string
	began, over := make(chan struct{}), make(chan struct{})
	for i := range 10 {
		s := serve(t, NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/busy" {
				began <- struct{}{}
				<-over
			}
			io.WriteString(w, string(rune('0'+i)))
		}), HandlerOptions{}).ServeHTTP)
		addrs = append(addrs, addr(s))
		for range 3 {
			if i == 3 {
				continue
			}
			others := s.Client()
			go func() {
				if resp, err := others.Get(s.URL + "/busy"); err == nil {
					resp.Body.Close()
				}
			}()
			<-began
		}
	}
	t.Cleanup(func() { close(over) })
	m := open(t, zerohop.Config{
		Resolver: source(addrs...),
		Balancers: map[string]loadbalance.Builder{
			"by-report": loadbalance.PrequalConfig{Quantile: -1, ProbeTimeout: time.Second, MaxAge: time.Hour, Pool: 10}.Prequal,
		},
		Spec: zerohop.Spec{Defaults: zerohop.Policy{Balance: "by-report"}},
	})
	rt := client(t, m)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for run := 0; run < 20; {
		resp, err := get(ctx, t, rt, "http://orders/")
		run++
		if read(t, resp, err) != "3" {
			run = 0
		}
		if ctx.Err() != nil {
			t.Fatal("no 20 calls in a row go to the idle server")
		}
	}
}

func TestProbeTellsWhoDoesNotAnswer(t *testing.T) {
	var code int
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(code) })
	m := prequal(t, zerohop.Config{Resolver: source(addr(s))})
	rt := client(t, m)
	var node *loadbalance.Node
	stop, err := m.Subscribe("orders", func(e zerohop.Endpoints) {
		if n := e.Balancer.Set().Nodes(); len(n) > 0 {
			node = n[0]
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	code = 200
	resp, err := get(t.Context(), t, rt, "http://orders/") // the endpoints are known now
	read(t, resp, err)
	stop()
	p := &prober{transport: rt, connect: zerohop.Connect{Timeout: time.Second}}
	p.url.Scheme, p.url.Host, p.url.Path = "http", "orders", LoadPath
	for c, want := range map[int]bool{200: true, 401: true, 404: true, 503: false, 429: false} {
		code = c
		if _, err := p.Probe(t.Context(), node); err == nil || errors.Is(err, loadbalance.ErrNoProbes) != want {
			t.Errorf("status %d: %v, want ErrNoProbes: %v", c, err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Probe(ctx, node); !errors.Is(err, context.Canceled) || errors.Is(err, loadbalance.ErrNoProbes) {
		t.Errorf("with a context that has ended: %v, want that it was canceled", err)
	}
}

type countingProber struct{ probes int }

func (p *countingProber) Probe(context.Context, *loadbalance.Node) (loadbalance.Load, error) {
	p.probes++
	return loadbalance.Load{InFlight: 1}, nil
}

// A node that said how busy it is, is not asked. What it says with a failure does not count as that.
func TestReportsOfFailuresTellNothingOfRequestsInFlight(t *testing.T) {
	const report = "TEXT named_metrics.zerohop.inflight=1"
	for _, tt := range []struct {
		values  []string
		outcome resilience.Outcome
		probes  int
	}{
		{[]string{report}, resilience.Success, 0},
		{[]string{report}, resilience.Failure, 1},
		{[]string{report}, resilience.Overload, 1},
		{[]string{"junk", report}, resilience.Success, 0},
		{[]string{report, "junk"}, resilience.Success, 1},
		{nil, resilience.Success, 1},
	} {
		b := loadbalance.New(loadbalance.Config{Builder: loadbalance.Prequal})
		b.Update(source("10.0.0.1:80")["orders"])
		h := http.Header{"Other": {"x"}}
		if tt.values != nil {
			h[LoadHeader] = tt.values
		}
		reportLoad(b.Set().Nodes()[0], h, tt.outcome)
		var p countingProber
		if err := b.Probe(t.Context(), &p); err != nil || p.probes != tt.probes || len(h) != 1 {
			t.Errorf("%q, %v: %d probes, %v, header %v; want %d probes, and nothing of the load left", tt.values, tt.outcome, p.probes, err, h, tt.probes)
		}
	}
}

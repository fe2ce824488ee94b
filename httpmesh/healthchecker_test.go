package httpmesh

import (
	"context"
	"crypto/tls"
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
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/healthcheck"
)

// examine makes one check with time enough, or too little for what never ends.
func examine(t *testing.T, h *HealthChecker, p healthcheck.Probe, timeout time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	return h.Check(ctx, p)
}

func statuses(t *testing.T, list string) healthcheck.Statuses {
	t.Helper()
	s, err := healthcheck.ParseStatuses(list)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestHealthCheckByHTTP(t *testing.T) {
	elsewhere := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") })
	silence := make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/503":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/404":
			w.WriteHeader(http.StatusNotFound)
		case "/204":
			w.WriteHeader(http.StatusNoContent)
		case "/redirect":
			http.Redirect(w, r, elsewhere.URL, http.StatusFound)
		case "/hang":
			<-silence
		case "/cut":
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "I am")
		case "/large":
			for range 1000 {
				_, _ = w.Write(make([]byte, 10<<10)) // fails when the client has seen enough
			}
		case "/who":
			if got, want := fmt.Sprint(r.Method, " ", r.RequestURI, " ", r.Host, " ", r.UserAgent()), "GET /who?is=it orders zerohop-health-check"; got != want {
				t.Errorf("request = %q, want %q", got, want)
			}
		case "/other":
			if r.Host != "inside" {
				t.Errorf("Host = %q, want inside", r.Host)
			}
		}
	})
	defer close(silence)
	refused := closedAddr(t)
	mute, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, as for a process that is stopped
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	h := NewHealthChecker(nil)
	for _, c := range []struct {
		probe   healthcheck.Probe
		timeout time.Duration
		want    string // in the error, empty if there is none
	}{
		{healthcheck.Probe{Path: "/"}, time.Minute, ""},
		{healthcheck.Probe{Path: "/who?is=it"}, time.Minute, ""},
		{healthcheck.Probe{Path: "/other", Host: "inside"}, time.Minute, ""},
		{healthcheck.Probe{Path: "/204"}, time.Minute, ""},
		{healthcheck.Probe{Path: "/large"}, time.Minute, ""},
		{healthcheck.Probe{Path: "/404", Statuses: statuses(t, "200,404")}, time.Minute, ""},
		{healthcheck.Probe{Path: "/", Statuses: statuses(t, "204")}, time.Minute, "answered 200"},
		{healthcheck.Probe{Path: "/404"}, time.Minute, "answered 404 Not Found"},
		{healthcheck.Probe{Path: "/503"}, time.Minute, "answered 503 Service Unavailable"},
		{healthcheck.Probe{Path: "/redirect"}, time.Minute, "answered 302"},
		{healthcheck.Probe{Path: "/cut"}, time.Minute, "broke off"},
		{healthcheck.Probe{Path: "/hang"}, 50 * time.Millisecond, "deadline exceeded"},
		{healthcheck.Probe{Path: "/", Addr: mute.Addr().String()}, 50 * time.Millisecond, "deadline exceeded"},
		{healthcheck.Probe{Path: "/", Addr: refused}, time.Minute, "connection refused"},
		{healthcheck.Probe{Path: "/", Addr: "nonsense"}, time.Minute, "missing port"},
	} {
		p := c.probe
		if p.Service = "orders"; p.Addr == "" {
			p.Addr = addr(s)
		}
		err := examine(t, h, p, c.timeout)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("check of %s at %s = %v, want %q", p.Path, p.Addr, err, c.want)
		}
	}
}

func TestHealthCheckWaitsForTheEndOfTheAnswer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "I am")
		_ = http.NewResponseController(w).Flush()
		cancel()
		<-r.Context().Done()
	})
	err := NewHealthChecker(nil).Check(ctx, healthcheck.Probe{Service: "orders", Addr: addr(s), Path: "/"})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("check that ended amid the answer = %v, want %v", err, context.Canceled)
	}
}

// The names are those of TestTLSNames: a check verifies what a call would.
func TestHealthCheckVerifiesTheName(t *testing.T) {
	a := newAuthority(t)
	for name, c := range map[string]struct {
		cert, policy, base string
		good               bool
	}{
		"service":               {cert: "orders", good: true},
		"base":                  {cert: "inside", base: "inside", good: true},
		"policy":                {cert: "inside", policy: "inside", base: "outside", good: true},
		"address":               {},
		"address by the base":   {base: "orders"},
		"of another service":    {cert: "payments"},
		"of the base only":      {cert: "orders", policy: "inside", base: "orders"},
		"address by the policy": {policy: "orders"},
	} {
		for _, http2 := range []bool{false, true} {
			s := encrypted(t, a.issue(t, c.cert), http2)
			h := NewHealthChecker(&http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.roots(), ServerName: c.base}, ForceAttemptHTTP2: true})
			err := examine(t, h, healthcheck.Probe{Service: "orders", Addr: addr(s), Protocol: "https", Path: "/", ServerName: c.policy}, time.Minute)
			var wrong *tls.CertificateVerificationError
			if (err == nil) != c.good || err != nil && !errors.As(err, &wrong) {
				t.Errorf("%s: check = %v, want it to pass: %v", name, err, c.good)
			}
		}
	}
}

func TestHealthCheckSpeaksTheProtocolsOfItsBase(t *testing.T) {
	a := newAuthority(t)
	var clear, http1 http.Protocols
	clear.SetUnencryptedHTTP2(true)
	http1.SetHTTP1(true)
	saw := make(chan string, 1)
	handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { saw <- r.Proto })
	plain := httptest.NewUnstartedServer(handler)
	plain.Config.Protocols = new(http.Protocols)
	plain.Config.Protocols.SetUnencryptedHTTP2(true)
	plain.Config.Protocols.SetHTTP1(true)
	plain.Start()
	defer plain.Close()
	secure := httptest.NewUnstartedServer(handler)
	secure.EnableHTTP2, secure.TLS = true, &tls.Config{Certificates: []tls.Certificate{a.issue(t, "orders")}}
	secure.StartTLS()
	defer secure.Close()
	for _, c := range []struct {
		protocols *http.Protocols
		scheme    string
		server    *httptest.Server
		want      string
	}{
		{nil, "http", plain, "HTTP/1.1"},
		{&clear, "http", plain, "HTTP/2.0"},
		{nil, "https", secure, "HTTP/2.0"},
		{&http1, "https", secure, "HTTP/1.1"},
	} {
		h := NewHealthChecker(&http.Transport{Protocols: c.protocols, ForceAttemptHTTP2: c.protocols == nil, TLSClientConfig: &tls.Config{RootCAs: a.roots()}})
		if err := examine(t, h, healthcheck.Probe{Service: "orders", Addr: addr(c.server), Protocol: c.scheme, Path: "/"}, time.Minute); err != nil {
			t.Errorf("check over %s with protocols %v = %v", c.scheme, c.protocols, err)
			continue
		}
		if got := <-saw; got != c.want {
			t.Errorf("protocol of a check over %s with protocols %v = %s, want %s", c.scheme, c.protocols, got, c.want)
		}
	}
}

func TestHealthChecksKeepNoConnections(t *testing.T) {
	var opened atomic.Int64
	open := make(chan struct{}, 100)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			opened.Add(1)
		case http.StateClosed:
			open <- struct{}{}
		}
	}
	s.Start()
	defer s.Close()
	h := NewHealthChecker(nil)
	for range 20 {
		if err := examine(t, h, healthcheck.Probe{Service: "orders", Addr: addr(s), Path: "/"}, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		<-open
	}
	if got := opened.Load(); got != 20 {
		t.Errorf("connections of 20 checks = %d, want 20", got)
	}
}

// A backend that reports that it is unwell gets no calls although it would answer them, until it has been well for a while.
func TestCallsAvoidBackendsWhoseChecksFail(t *testing.T) {
	const backends = 3
	var unwell atomic.Bool
	var calls, checks [backends]atomic.Int64
	var addrs []string
	for i := range backends {
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/health" {
				calls[i].Add(1)
				return
			}
			checks[i].Add(1)
			if i == 0 && unwell.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		})
		addrs = append(addrs, addr(s))
	}
	events := make(chan zerohop.HealthEvent, 10)
	m := open(t, zerohop.Config{
		Resolver: source(addrs...),
		Checkers: map[string]healthcheck.Checker{"http": NewHealthChecker(nil)},
		Hooks:    zerohop.Hooks{Health: func(_ string, ev zerohop.HealthEvent) { events <- ev }},
		Spec: zerohop.Spec{Services: map[string]zerohop.Policy{"orders": {
			Balance: "weighted-round-robin", Backup: zerohop.Backup{Mode: zerohop.Off}, SlowStart: zerohop.SlowStart{Mode: zerohop.Off},
			HealthCheck: zerohop.HealthCheck{Mode: zerohop.On, Protocol: "http", Path: "/health", Interval: 50 * time.Millisecond, Timeout: time.Minute, Healthy: 3},
		}}},
	})
	tr := client(t, m)
	ask := func(n int) (got [backends]int64) {
		for i := range got {
			got[i] = -calls[i].Load()
		}
		for range n {
			resp, err := get(t.Context(), t, tr, "http://orders/")
			read(t, resp, err)
		}
		for i := range got {
			got[i] += calls[i].Load()
		}
		return got
	}
	if got := ask(30); got != [backends]int64{10, 10, 10} {
		t.Errorf("calls while all are well = %v, want 10 each", got)
	}
	unwell.Store(true)
	ev := <-events
	if ev.Endpoint.Addr != addrs[0] || ev.Passing || !strings.Contains(ev.Err.Error(), "503") {
		t.Errorf("event = %+v, want the first to fail for its 503", ev)
	}
	if got := ask(30); got != [backends]int64{0, 15, 15} {
		t.Errorf("calls while the first fails its checks = %v, want none on it", got)
	}
	before := checks[0].Load()
	unwell.Store(false)
	if ev = <-events; !ev.Passing || ev.Err != nil {
		t.Errorf("event = %+v, want the first to pass", ev)
	}
	if got := checks[0].Load() - before; got < 3 {
		t.Errorf("checks until the first is back = %d, want 3 at least", got)
	}
	if got := ask(30); got != [backends]int64{10, 10, 10} {
		t.Errorf("calls when the first is back = %v, want 10 each", got)
	}
}

// What the servers of a fleet see of the checks of a client that starts is bounded in number at a time and per second.
func TestChecksOfAFleetAreBounded(t *testing.T) {
	const fleet, atOnce, rate = 200, 8, 400
	var now, most, all atomic.Int64
	var seen sync.Map
	done, crowd := make(chan struct{}), make(chan struct{})
	full := sync.OnceFunc(func() { // in the meantime the rate would let forty more come
		time.AfterFunc(100*time.Millisecond, func() { close(crowd) })
	})
	var eps []discovery.Endpoint
	for i := range fleet {
		s := serve(t, func(http.ResponseWriter, *http.Request) {
			n := now.Add(1)
			defer now.Add(-1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			if n == atOnce {
				full()
			}
			<-crowd
			if _, again := seen.Swap(i, true); !again && all.Add(1) == fleet {
				close(done)
			}
		})
		eps = append(eps, discovery.Endpoint{Addr: addr(s)})
	}
	started := time.Now()
	m := open(t, zerohop.Config{
		Resolver: discovery.Static{"orders": eps},
		Checkers: map[string]healthcheck.Checker{"http": NewHealthChecker(nil)},
		Spec: zerohop.Spec{Services: map[string]zerohop.Policy{"orders": {HealthCheck: zerohop.HealthCheck{
			Mode: zerohop.On, Protocol: "http", Spread: -1, Timeout: time.Minute, InFlight: atOnce, Rate: rate,
		}}}},
	})
	<-done
	took := time.Since(started)
	m.Close()
	t.Logf("%d checks took %v, %d at a time", fleet, took, most.Load())
	if got := most.Load(); got != atOnce {
		t.Errorf("checks at a time = %d, want %d", got, atOnce)
	}
	if least := time.Duration(fleet-10) * time.Second / rate; took < least {
		t.Errorf("%d checks took %v, want %v at least", fleet, took, least)
	}
}

package httpmesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/healthcheck"
	"github.com/zerohop/zerohop/internal/addrtest"
)

// registry is a source that others can write to.
type registry struct{ discovery.Static }

func (registry) Remote() bool { return true }

func remoteMesh(t *testing.T, policy discovery.AddressPolicy, services discovery.Static) *zerohop.Mesh {
	t.Helper()
	m, err := zerohop.New(zerohop.Config{Resolver: registry{services}, Addresses: policy})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func TestTransportNeverDialsRefusedAddresses(t *testing.T) {
	services := discovery.Static{}
	for i, addr := range addrtest.Refused {
		services[fmt.Sprint("s", i)] = []discovery.Endpoint{{Addr: addr}}
	}
	mesh := remoteMesh(t, discovery.AddressPolicy{}, services)
	var dials atomic.Int32
	base := &http.Transport{DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
		dials.Add(1)
		return nil, fmt.Errorf("dial of %q", addr)
	}}
	client := &http.Client{Transport: NewTransport(mesh, base)}
	for i, addr := range addrtest.Refused {
		resp, err := client.Get(fmt.Sprintf("http://s%d/", i))
		if err == nil {
			resp.Body.Close()
		}
		var e *zerohop.Error
		if !errors.As(err, &e) || e.Reason != zerohop.NoEndpoints || e.Sent || !strings.Contains(err.Error(), "discovery: ") {
			t.Errorf("Get() with %q = %v, want no endpoints and why", addr, err)
		}
	}
	if got := dials.Load(); got != 0 {
		t.Errorf("%d dials, want 0", got)
	}
}

// accepting is a server that counts the connections it accepts.
type accepting struct {
	port  string
	count atomic.Int32
}

func newAccepting(t *testing.T) *accepting {
	t.Helper()
	a := new(accepting)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			a.count.Add(1)
		}
	}
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	_, a.port, _ = net.SplitHostPort(s.Listener.Addr().String())
	return a
}

// before returns how many connections were made before the call: they are accepted before the one it makes.
func (a *accepting) before(t *testing.T) int {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:"+a.port+"/", nil)
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return int(a.count.Load()) - 1
}

func TestTransportChecksWhatNamesLeadTo(t *testing.T) {
	var ip atomic.Pointer[netip.Addr]
	resolver := addrtest.Resolver(func() netip.Addr { return *ip.Load() })
	system := net.DefaultResolver
	net.DefaultResolver = resolver
	defer func() { net.DefaultResolver = system }()
	looksUpItself := func(ctx context.Context, network, addr string) (net.Conn, error) {
		_, port, _ := net.SplitHostPort(addr)
		return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(ip.Load().String(), port))
	}
	h2c := new(http.Protocols)
	h2c.SetUnencryptedHTTP2(true)
	for name, c := range map[string]struct {
		base  *http.Transport
		sends int // connections that are made and closed
	}{
		"our dialer":         {&http.Transport{}, 0},
		"our dialer, HTTP/2": {&http.Transport{Protocols: h2c}, 0},
		"a net.Dialer":       {&http.Transport{DialContext: (&net.Dialer{Resolver: resolver}).DialContext}, 0},
		"default transport":  {nil, 0},
		"clone of it":        {http.DefaultTransport.(*http.Transport).Clone(), 0},
		//lint:ignore SA1019 it is what is tested
		"a dialer without a context": {&http.Transport{Dial: (&net.Dialer{Resolver: resolver}).Dial}, 1},
		"one that looks up itself":   {&http.Transport{DialContext: looksUpItself}, 1},
		"by TLS":                     {&http.Transport{DialTLSContext: looksUpItself}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			server := newAccepting(t)
			scheme := "http"
			if c.base != nil && c.base.DialTLSContext != nil {
				scheme = "https"
			}
			loopback := netip.MustParseAddr("127.0.0.1")
			ip.Store(&loopback)
			var base http.RoundTripper
			if c.base != nil {
				base = c.base
			}
			mesh := remoteMesh(t, discovery.AddressPolicy{}, discovery.Static{"orders": {{Addr: "rebound.example.com:" + server.port}}})
			resp, err := (&http.Client{Transport: NewTransport(mesh, base)}).Post(scheme+"://orders/", "text/plain", strings.NewReader("x"))
			if err == nil {
				resp.Body.Close()
			}
			var e *zerohop.Error
			var refused *discovery.AddressError
			if !errors.As(err, &e) || e.Sent || !errors.As(err, &refused) || !zerohop.DialFailed(err) {
				t.Errorf("Post() = %v, want an *AddressError of a dial, not sent", err)
			}
			if got, most := server.before(t), c.sends*attempts(e); got > most {
				t.Errorf("%d connections, want %d at most", got, most)
			}
			if scheme == "https" {
				return
			}
			mesh = remoteMesh(t, discovery.AddressPolicy{AllowLoopback: true}, discovery.Static{"orders": {{Addr: "rebound.example.com:" + server.port}}})
			tr := NewTransport(mesh, base)
			defer tr.CloseIdleConnections()
			if resp, err = (&http.Client{Transport: tr}).Get("http://orders/"); err != nil {
				t.Fatalf("Get() with AllowLoopback = %v", err)
			}
			resp.Body.Close()
		})
	}
}

func attempts(e *zerohop.Error) int {
	if e == nil {
		return 0
	}
	return len(e.Attempts)
}

func TestTransportUsesProxiesOnTheLoopback(t *testing.T) {
	by, made := connectProxy(t, nil)
	_, port, _ := net.SplitHostPort(by.Host)
	system := net.DefaultResolver
	net.DefaultResolver = addrtest.Resolver(func() netip.Addr { return netip.MustParseAddr("127.0.0.1") })
	defer func() { net.DefaultResolver = system }()
	for _, host := range []string{by.Host, "proxy.example.com:" + port} {
		for name, dial := range map[string]dialFunc{"ours": nil, "another": new(net.Dialer).DialContext} {
			u := *by
			u.Host = host
			base := &http.Transport{Proxy: http.ProxyURL(&u), DialContext: dial}
			mesh := remoteMesh(t, discovery.AddressPolicy{}, discovery.Static{"inside": {{Addr: "127.0.0.1:1"}}, "outside": {{Addr: "192.0.2.1:0"}, {Addr: "host.invalid:1"}}})
			client := &http.Client{Transport: NewTransport(mesh, base)}
			_, err := client.Get("http://outside/")
			if err == nil || !strings.Contains(err.Error(), "Bad Gateway") {
				t.Errorf("%s dialer, proxy %s: Get() = %v, want what the proxy says", name, host, err)
			}
			var refused *discovery.AddressError
			if _, err = client.Get("http://inside/"); !errors.As(err, &refused) {
				t.Errorf("%s dialer, proxy %s: Get() = %v, want an *AddressError", name, host, err)
			}
		}
	}
	if got := made.Load(); got != 0 {
		t.Errorf("the proxy made %d connections, want 0", got)
	}
}

func TestHealthCheckerChecksWhatNamesLeadTo(t *testing.T) {
	server := newAccepting(t)
	system := net.DefaultResolver
	net.DefaultResolver = addrtest.Resolver(func() netip.Addr { return netip.MustParseAddr("127.0.0.1") })
	defer func() { net.DefaultResolver = system }()
	checkers := map[string]healthcheck.Checker{
		"tcp": healthcheck.TCP{}, "http": NewHealthChecker(nil), "our dialer": NewHealthChecker(&http.Transport{}),
	}
	for name, checker := range checkers {
		for _, host := range []string{"rebound.example.com", "127.0.0.1"} {
			p := healthcheck.Probe{Service: "orders", Addr: net.JoinHostPort(host, server.port), Path: "/", DialControl: discovery.AddressPolicy{}.Control}
			var refused *discovery.AddressError
			if err := checker.Check(t.Context(), p); !errors.As(err, &refused) {
				t.Errorf("%s: Check(%s) = %v, want an *AddressError", name, host, err)
			}
		}
	}
	if got := server.before(t); got != 0 {
		t.Errorf("%d connections, want 0", got)
	}
	for name, checker := range checkers {
		p := healthcheck.Probe{Service: "orders", Addr: "rebound.example.com:" + server.port, Path: "/"}
		if err := checker.Check(t.Context(), p); err != nil {
			t.Errorf("%s: Check() without a policy = %v", name, err)
		}
	}
}

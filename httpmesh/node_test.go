package httpmesh

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/discoverytest"
)

func TestConnectionsEndWithTheirNodeAndTheMesh(t *testing.T) {
	start := func(closed chan<- struct{}) discovery.Endpoint {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }))
		s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
			if st == http.StateClosed {
				closed <- struct{}{}
			}
		}
		s.Start()
		t.Cleanup(s.Close)
		return discovery.Endpoint{Addr: addr(s)}
	}
	closedA, closedB := make(chan struct{}, 10), make(chan struct{}, 10)
	a, b := start(closedA), start(closedB)
	var registry discoverytest.Memory
	registry.Set("orders", a)
	updated := make(chan int, 10)
	m := open(t, zerohop.Config{Resolver: &registry, Hooks: zerohop.Hooks{Discovery: func(_ string, ev discovery.Event) {
		if ev.Kind == discovery.EventPublished {
			updated <- ev.Endpoints
		}
	}}})
	tr := client(t, m)
	fetch := func() {
		resp, err := get(t.Context(), t, tr, "http://orders/")
		read(t, resp, err)
	}
	gone := func(closed <-chan struct{}, what string) {
		t.Helper()
		select {
		case <-closed:
		case <-time.After(5 * time.Second):
			t.Fatalf("a connection %s is still open", what)
		}
	}
	fetch()
	<-updated
	busy, err := get(t.Context(), t, tr, "http://orders/")
	if err != nil {
		t.Fatal(err)
	}
	registry.Set("orders", b)
	<-updated
	if got := read(t, busy, nil); got != "ok" {
		t.Errorf("body of a node that left = %q", got)
	}
	gone(closedA, "to the node that left")
	fetch()
	if len(closedB) > 0 {
		t.Error("no connection was kept")
	}
	tr.CloseIdleConnections()
	gone(closedB, "after CloseIdleConnections")
	fetch()
	m.Close()
	gone(closedB, "after Close")
	if len(tr.nodes) != 0 {
		t.Errorf("%d transports of nodes are left", len(tr.nodes))
	}
	if _, err := get(t.Context(), t, tr, "http://orders/"); !errors.Is(err, zerohop.ErrClosed) {
		t.Errorf("call after Close: %v, want %v", err, zerohop.ErrClosed)
	}
}

func TestConnectorFollowsItsBase(t *testing.T) {
	m := open(t, zerohop.Config{Resolver: fakes(1)})
	errDial := errors.New("no way")
	dialed := ""
	dial := func(_, addr string) (net.Conn, error) { dialed = addr; return nil, errDial }
	dialContext := func(_ context.Context, network, addr string) (net.Conn, error) { return dial(network, addr) }
	for name, c := range map[string]struct {
		base   *http.Transport
		scheme string
	}{
		"DialContext": {&http.Transport{DialContext: dialContext}, "http"},
		//lint:ignore SA1019 a base may still use it
		"Dial":           {&http.Transport{Dial: dial}, "http"},
		"DialTLSContext": {&http.Transport{DialTLSContext: dialContext}, "https"},
		//lint:ignore SA1019 a base may still use it
		"DialTLS": {&http.Transport{DialTLS: dial}, "https"},
	} {
		dialed = ""
		_, err := NewTransport(m, c.base).RoundTrip(request(t.Context(), t, "POST", c.scheme+"://orders/", strings.NewReader("x")))
		if e := failure(t, err); e.Sent || !errors.Is(err, errDial) || dialed != "10.0.0.1:80" {
			t.Errorf("%s dialled %q: %+v, want the node, and nothing sent", name, dialed, e)
		}
	}
	for name, c := range map[string]struct {
		base *http.Transport
		want bool
	}{
		"plain": {&http.Transport{}, true}, "default": {http.DefaultTransport.(*http.Transport).Clone(), true},
		"TLS settings":  {&http.Transport{TLSClientConfig: &tls.Config{}}, false},
		"no next proto": {&http.Transport{TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}, false},
		"idle":          {&http.Transport{MaxIdleConns: 500}, true},
	} {
		c.base.MaxConnsPerHost = 7
		var k connector
		k.init(c.base)
		for _, tr := range []*http.Transport{k.client, k.http1, k.calm} {
			if tr.ForceAttemptHTTP2 != (c.want && tr != k.http1) || tr.Proxy != nil || tr.MaxConnsPerHost != 0 {
				t.Errorf("%s: HTTP/2 %v, connections %d, want %v and no limit", name, tr.ForceAttemptHTTP2, tr.MaxConnsPerHost, c.want)
			}
		}
		if s := k.shared; s.keep != max(100, c.base.MaxIdleConns) || s.limit != 7 {
			t.Errorf("%s: pools keep %d connections of %d", name, s.keep, s.limit)
		}
	}
}

func TestTLSVerifiesTheNameOfTheService(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto, " ", r.Host) }))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	base := s.Client().Transport.(*http.Transport).Clone()
	base.DialContext = nil
	base.ForceAttemptHTTP2 = true
	m := open(t, zerohop.Config{Resolver: discovery.Static{"example.com": {{Addr: addr(s)}}, "orders": {{Addr: addr(s)}}}, Spec: zerohop.Spec{Services: map[string]zerohop.Policy{"example.com": {}}}})
	tr := NewTransport(m, base)
	defer tr.CloseIdleConnections()
	resp, err := get(t.Context(), t, tr, "https://example.com/")
	if got, want := read(t, resp, err), "HTTP/2.0 example.com"; got != want {
		t.Errorf("server saw %q, want %q", got, want)
	}
	_, err = get(t.Context(), t, tr, "https://orders/")
	var wrong *tls.CertificateVerificationError
	if e := failure(t, err); !errors.As(err, &wrong) || e.Sent {
		t.Errorf("error = %+v, want that the certificate is for another name, and nothing sent", e)
	}
}

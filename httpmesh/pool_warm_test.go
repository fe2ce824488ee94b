package httpmesh

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/discoverytest"
)

// Once a service is used, there are connections to all its endpoints, also to those that join later, and none to those
// that have left.
func TestEndpointsAreConnectedAheadOfRequests(t *testing.T) {
	type event struct {
		addr  string
		state http.ConnState
	}
	events := make(chan event, 100)
	start := func() discovery.Endpoint {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }))
		s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew || state == http.StateClosed {
				events <- event{addr(s), state}
			}
		}
		s.Start()
		t.Cleanup(s.Close)
		return discovery.Endpoint{Addr: addr(s)}
	}
	await := func(want ...event) {
		t.Helper()
		left := map[event]int{}
		for _, e := range want {
			left[e]++
		}
		for len(left) > 0 {
			select {
			case e := <-events:
				if left[e]--; left[e] < 0 {
					t.Fatalf("event %v, want only %v", e, want)
				} else if left[e] == 0 {
					delete(left, e)
				}
			case <-time.After(5 * time.Second):
				t.Fatalf("%v are still to come", left)
			}
		}
	}
	a, b, c := start(), start(), start()
	var registry discoverytest.Memory
	registry.Set("orders", a, b)
	m := open(t, zerohop.Config{Resolver: &registry, Spec: zerohop.Spec{
		Defaults: zerohop.Policy{Connect: zerohop.Connect{Warm: 2}},
	}})
	tr := client(t, m)
	resp, err := get(t.Context(), t, tr, "http://orders/")
	read(t, resp, err)
	made := func(e discovery.Endpoint) event { return event{e.Addr, http.StateNew} }
	gone := func(e discovery.Endpoint) event { return event{e.Addr, http.StateClosed} }
	await(made(a), made(a), made(b), made(b))
	registry.Set("orders", b, c)
	await(gone(a), gone(a), made(c), made(c))
	for range 10 {
		resp, err := get(t.Context(), t, tr, "http://orders/")
		read(t, resp, err)
	}
	m.Close()
	await(gone(b), gone(b), gone(c), gone(c))
}

func TestFewServicesAreConnectedAheadOfRequests(t *testing.T) {
	tr := client(t, open(t, zerohop.Config{Resolver: fakes(1)}))
	for i := range 2 * maxWarm {
		u := *request(t.Context(), t, "GET", "http://orders/", nil).URL
		u.Host = string(rune('a' + i))
		tr.warm("orders", zerohop.Connect{}, u, anyKind)
	}
	if got := len(tr.warmed); got != maxWarm {
		t.Errorf("%d services are followed, want %d", got, maxWarm)
	}
}

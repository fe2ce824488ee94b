package zerohop

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
)

// known returns the addresses that a mesh keeps to for "orders".
func known(t *testing.T, cfg Config, endpoints int) (addrs []string) {
	t.Helper()
	cfg.Resolver = orders(endpoints)
	m := open(t, cfg)
	for _, n := range balancer(t, m).Set().Nodes() {
		addrs = append(addrs, n.Addr())
	}
	return addrs
}

// balancer returns that of "orders" once the endpoints are known.
func balancer(t *testing.T, m *Mesh) *loadbalance.Balancer {
	t.Helper()
	if err := ping(t.Context(), m, "orders"); err != nil {
		t.Fatal(err)
	}
	s, err := m.service("orders")
	if err != nil {
		t.Fatal(err)
	}
	return s.balancer
}

func TestSubsetsDifferByInstance(t *testing.T) {
	few := Spec{Defaults: Policy{Subset: 12}}
	host, err := os.Hostname()
	if err != nil {
		t.Skip(err)
	}
	own := known(t, Config{Spec: few}, 40)
	if len(own) != 12 || !slices.Equal(own, known(t, Config{Spec: few, Instance: host}, 40)) {
		t.Errorf("subset without an instance = %v, want that of the host name", own)
	}
	a, b := known(t, Config{Spec: few, Instance: "a"}, 40), known(t, Config{Spec: few, Instance: "b"}, 40)
	if len(a) != 12 || slices.Equal(a, b) {
		t.Errorf("subsets = %v and %v, want different ones of 12", a, b)
	}
	if got := known(t, Config{Spec: few}, 32); len(got) != 32 {
		t.Errorf("subset of 32 endpoints has %d, want all: they are few", len(got))
	}
	if got := known(t, Config{}, 40); len(got) != 40 {
		t.Errorf("endpoints without a subset = %d, want all 40", len(got))
	}
	all := Spec{Defaults: few.Defaults, Services: map[string]Policy{"orders": {Subset: -1}}}
	if got := known(t, Config{Spec: all}, 40); len(got) != 40 {
		t.Errorf("endpoints of a service that has no subset = %d, want all 40", len(got))
	}
	counts := map[string]int{}
	for i := range 10 {
		for _, addr := range known(t, Config{Spec: few, Peers: 10, PeerIndex: i}, 40) {
			counts[addr]++
		}
	}
	for addr, n := range counts {
		if n != 3 {
			t.Errorf("peers that know %s = %d, want 120/40", addr, n)
		}
	}
}

func TestPanicAndOverProvisioningAreThoseOfThePolicy(t *testing.T) {
	for _, c := range []struct {
		policy  Policy
		failing int // of 10
		panics  bool
	}{
		{Policy{}, 5, false}, {Policy{}, 6, true},
		{Policy{Panic: -1}, 9, false},
		{Policy{Panic: 0.8}, 3, true}, {Policy{Panic: 0.8, OverProvisioning: 2}, 3, false},
	} {
		m := open(t, Config{Resolver: orders(10), Spec: Spec{Defaults: c.policy}})
		b := balancer(t, m)
		for _, n := range b.Set().Nodes()[:c.failing] {
			b.SetFailing(n.Addr(), true, time.Now())
		}
		if got := b.Set().Panicking(); got != c.panics {
			t.Errorf("%s with %d of 10 failing: panicking = %v, want %v", fmt.Sprint(c.policy.Panic, c.policy.OverProvisioning), c.failing, got, c.panics)
		}
	}
}

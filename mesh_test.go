package zerohop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/routing"
)

// endpoints returns endpoints of different addresses.
func endpoints(n int) []discovery.Endpoint {
	list := make([]discovery.Endpoint, n)
	for i := range list {
		list[i].Addr = fmt.Sprintf("10.0.0.%d:80", i+1)
	}
	return list
}

// orders knows a service "orders" with n endpoints.
func orders(n int) discovery.Static { return discovery.Static{"orders": endpoints(n)} }

func open(t *testing.T, cfg Config) *Mesh {
	t.Helper()
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// ping calls the service without doing anything there.
func ping(ctx context.Context, m *Mesh, service string) error {
	_, err := Do(ctx, m, service, func(context.Context, *loadbalance.Node) (int, error) { return 0, nil })
	return err
}

// failure returns the *Error that err is, and fails if it is none.
func failure(t *testing.T, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error = %v (%T), want an *Error", err, err)
	}
	return e
}

// inFlight returns the load of all nodes of the service.
func inFlight(m *Mesh, service string) (n int) {
	for _, node := range m.known()[service].balancer.Set().Nodes() {
		n += node.InFlight()
	}
	return n
}

func TestIsService(t *testing.T) {
	m := open(t, Config{Resolver: discovery.Static{}, Spec: Spec{
		Services: map[string]Policy{"api.example.com": {}, "orders:80": {}, "localhost": {}},
		Routes: []routing.Rule{
			{Match: routing.Match{Service: "shop.example.com"}, Backends: []routing.Backend{{Service: "shop.v2"}}},
			{Match: routing.Match{Service: "*.Wild.example"}, Backends: []routing.Backend{{Service: "shop.v2"}}},
		},
	}})
	for host, want := range map[string]bool{
		"orders": true, "Orders_2-x": true, "api.example.com": true, "orders:80": true, "localhost": true,
		"shop.v2": true, "API.Example.com": true, "Shop.V2": true, "ORDERS:80": true, "": false, "orders:81": false, "LocalHost": true, "localhost:80": false,
		"127.0.0.1": false, "10.0.0.1:80": false, "[::1]": false, "[::1]:80": false, "::1": false, "fe80::1%eth0": false,
		"a.wild.example": true, "A.b.WILD.example": true, "wild.example": false, ".wild.example": false, "a.wild.example:80": false,
		"www.example.com": false, "orders.": false, strings.Repeat("x", 253): true, strings.Repeat("x", 254): false,
	} {
		if got := m.IsService(host); got != want {
			t.Errorf("IsService(%.60q) = %v, want %v", host, got, want)
		}
	}
	if plain := open(t, Config{Resolver: discovery.Static{}}); plain.IsService("LocalHost") || plain.IsService("localhost") {
		t.Error("localhost is a service though nothing names it")
	}
	if got, want := m.IsService("shop.example.com"), true; got != want {
		t.Errorf("IsService of a host that a route matches = %v, want %v", got, want)
	}
	other := open(t, Config{Resolver: discovery.Static{}})
	if other.IsService("localhost") {
		t.Error("localhost is a service although nobody named it")
	}
}

func TestCloseIsIdempotentAndEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(2)})
		if err := ping(t.Context(), m, "orders"); err != nil {
			t.Fatal(err)
		}
		var running sync.WaitGroup
		finish := make(chan struct{})
		for range 10 {
			running.Go(func() {
				_, err := Do(t.Context(), m, "orders", func(context.Context, *loadbalance.Node) (int, error) { <-finish; return 0, nil })
				if err != nil {
					t.Errorf("call that had begun before Close failed: %v", err)
				}
			})
		}
		synctest.Wait()
		for range 5 {
			running.Go(func() {
				if err := m.Close(); err != nil {
					t.Errorf("Close() = %v", err)
				}
			})
		}
		synctest.Wait()
		err := ping(t.Context(), m, "orders")
		if e := failure(t, err); e.Reason != Closed || !errors.Is(err, ErrClosed) {
			t.Errorf("call after Close = %+v, want %v", e, ErrClosed)
		}
		if _, err := m.Subscribe("orders", nil); !errors.Is(err, ErrClosed) {
			t.Errorf("Subscribe after Close = %v, want %v", err, ErrClosed)
		}
		if m.IsService("10.0.0.1") || !m.IsService("orders") {
			t.Error("Close changed what is a service")
		}
		close(finish)
		running.Wait()
	})
}

func TestCloseDuringACallLeavesNoDoubtWhy(t *testing.T) {
	var m *Mesh
	m = open(t, Config{Resolver: orders(1), Hooks: Hooks{CallStart: func(ctx context.Context, _ CallInfo) context.Context {
		m.Close()
		return ctx
	}}})
	err := ping(t.Context(), m, "orders")
	if e := failure(t, err); e.Reason != Closed || !errors.Is(err, ErrClosed) {
		t.Errorf("error = %+v, want %v", e, ErrClosed)
	}
}

func TestRoutesShareCallsOutByWeight(t *testing.T) {
	m := open(t, Config{
		Resolver: discovery.Static{"v1": endpoints(1), "v2": endpoints(1)},
		Spec: Spec{Routes: []routing.Rule{{
			Name: "split", Match: routing.Match{Service: "orders"},
			Backends: []routing.Backend{{Service: "v1", Weight: 3}, {Service: "v2", Weight: 1}},
		}}},
		Hooks: Hooks{},
	})
	count := map[string]int{}
	const n = 4000
	for range n {
		target, _, err := m.target(&routing.Request{Service: "orders"}, new(uint64))
		if err != nil {
			t.Fatal(err)
		}
		if target.route != "split" {
			t.Fatalf("route = %q, want split", target.route)
		}
		count[target.service.name]++
	}
	// Binomial with p = 0.25 and n = 4000: 5 standard deviations are 137.
	if got := count["v2"]; got < n/4-137 || got > n/4+137 || count["v1"] != n-got {
		t.Errorf("calls = %v, want 3 to 1", count)
	}
	if got := m.Reachable("orders"); len(got) < 2 {
		t.Errorf("Reachable(orders) = %v, want both backends", got)
	}
}

func TestCaseOfNamesDoesNotMatter(t *testing.T) {
	m := open(t, Config{
		Resolver: discovery.Static{"orders": endpoints(1), "Ledger": endpoints(1), "orders-next": endpoints(1)},
		Spec: Spec{
			Services: map[string]Policy{"Ledger": {Retry: Retry{Attempts: 5}}},
			Routes: []routing.Rule{{
				Name: "next", Match: routing.Match{Service: "ORDERS", Path: routing.Path{Prefix: "/v2"}},
				Backends: []routing.Backend{{Service: "Orders-Next"}},
			}},
		},
	})
	for _, c := range []struct{ host, path, service string }{
		{"orders", "/v1", "orders"},
		{"Orders", "/v1", "orders"},
		{"oRDERS", "/v2", "orders-next"},
		{"ledger", "/", "Ledger"}, // as the spec spells it: the resolver may care
		{"LEDGER", "/", "Ledger"},
	} {
		ctx, report := WithReport(t.Context())
		if err := ping(ctx, m, c.host); err != nil {
			t.Errorf("call of %s: %v", c.host, err)
		}
		if got := report.Calls()[0]; got.Host != c.host {
			t.Errorf("call of %s: host = %q", c.host, got.Host)
		}
		target, _, err := m.target(&routing.Request{Service: c.host, Path: c.path}, new(uint64))
		if err != nil || target.service.name != c.service {
			t.Fatalf("%s%s leads to %+v, %v, want %s", c.host, c.path, target, err, c.service)
		}
		if c.service == "Ledger" && target.policy.Retry.Attempts != 5 {
			t.Errorf("policy of %s = %+v, want that of Ledger", c.host, target.policy.Retry)
		}
	}
	if got := len(m.known()); got != 3 {
		t.Errorf("%d services, want 3", got)
	}
	if got, want := m.Reachable("Orders"), []string{"orders", "orders-next"}; !slices.Equal(got, want) {
		t.Errorf("Reachable() = %v, want %v", got, want)
	}
	if got := testing.AllocsPerRun(100, func() { m.IsService("orders") }); got != 0 {
		t.Errorf("IsService of a name in lower case makes %v allocations", got)
	}
}

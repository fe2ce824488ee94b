package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/routing"
)

var errDown = errors.New("down")

// open returns a console, closed after the test.
func open(t testing.TB, cfg Config) *Console {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// mesh returns a mesh that the console knows, closed after the test.
func mesh(t testing.TB, hooks zerohop.Hooks, r discovery.Resolver, spec zerohop.Spec) *zerohop.Mesh {
	t.Helper()
	m, err := zerohop.New(zerohop.Config{Resolver: r, Spec: spec, Hooks: hooks, Instance: "i-1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// call makes a call that takes that long.
func call(ctx context.Context, m *zerohop.Mesh, service string, d time.Duration, result error) error {
	_, err := zerohop.Do(ctx, m, service, func(context.Context, *loadbalance.Node) (int, error) {
		time.Sleep(d)
		return 0, result
	})
	return err
}

// ask returns the answer to a request of the same origin.
func ask(h http.Handler, target string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	r.Host = "localhost:8080"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// view returns a view as the page gets it.
func view[V any](t testing.TB, c *Console, target string) V {
	t.Helper()
	w := ask(c, target)
	var v V
	if err := json.Unmarshal(w.Body.Bytes(), &v); w.Code != http.StatusOK || err != nil {
		t.Fatalf("GET %s: %d %s %v", target, w.Code, w.Body, err)
	}
	return v
}

var twoServices = discovery.Static{
	"orders": {{Addr: "10.0.0.1:80", Zone: "a", Meta: map[string]string{"version": "1", "db_password": "hunter2"}}, {Addr: "10.0.0.2:80", Zone: "b"}},
	"stock":  {{Addr: "10.0.1.1:80"}},
}

func TestSummaryCountsCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, Config{Name: "checkout"})
		m := mesh(t, c.Hooks(), twoServices, zerohop.Spec{Services: map[string]zerohop.Policy{"orders": {}, "stock": {}}})
		time.Sleep(tick) // the first tick has nothing
		for range 100 {
			_ = call(t.Context(), m, "orders", 10*time.Millisecond, nil)
		}
		for range 25 {
			_ = call(t.Context(), m, "orders", 40*time.Millisecond, errDown)
		}
		time.Sleep(tick)
		synctest.Wait()
		s := view[Summary](t, c, "/api/summary")
		if len(s.Meshes) != 1 || s.Meshes[0].Name != "checkout" || s.Meshes[0].Instance != "i-1" || s.Meshes[0].Generation != 1 {
			t.Errorf("meshes = %+v", s.Meshes)
		}
		if len(s.Services) != 2 {
			t.Fatalf("services = %+v, want orders and stock", s.Services)
		}
		l := s.Services[0]
		if l.Service != "orders" || l.Calls != 125 || l.Failures != 25 || l.Endpoints != 2 || l.Balance != "peak-ewma" {
			t.Errorf("line = %+v, want 125 calls, 25 failures", l)
		}
		if got, want := l.Now.Errors, 0.2; got != want {
			t.Errorf("errors = %v, want %v", got, want)
		}
		if got, want := l.Now.Rate, round(125/(float64(s.Point-1)*tick.Seconds())); got != want { // the service is counted from its first call on
			t.Errorf("rate = %v, want %v", got, want)
		}
		if p := l.Now.P50; p < 10*7/8. || p > 10*9/8. {
			t.Errorf("p50 = %v, want 10 within an eighth", p)
		}
		if p := l.Now.P99; p < 40*7/8. || p > 40*9/8. {
			t.Errorf("p99 = %v, want 40 within an eighth", p)
		}
		if s.Services[1].Status != StatusOK || s.Services[1].Calls != 0 {
			t.Errorf("stock = %+v, want no calls", s.Services[1])
		}
		if got := view[Summary](t, c, "/api/summary?service=stock"); len(got.Services) != 1 || got.Services[0].Service != "stock" {
			t.Errorf("only stock = %+v", got.Services)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if l := view[Summary](t, c, "/api/summary").Services[0]; l.Now != (Traffic{}) || l.Minute != (Traffic{}) || l.Calls != 125 {
			t.Errorf("after two minutes: %+v, want an empty window and 125 calls", l)
		}
	})
}

func TestServiceHasItsEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, Config{})
		m := mesh(t, c.Hooks(), twoServices, zerohop.Spec{})
		for range 40 {
			_ = call(t.Context(), m, "orders", 10*time.Millisecond, nil)
		}
		time.Sleep(2 * tick)
		synctest.Wait()
		v := view[ServiceView](t, c, "/api/service?service=orders")
		if v.Total != 2 || len(v.Endpoints) != 2 || v.Named || !v.Discovery.Known || len(v.Zones) != 2 {
			t.Fatalf("service = %+v", v)
		}
		var got float64
		for _, e := range v.Endpoints {
			got += e.Got
			if e.Status != StatusOK || e.Health != "healthy" || e.Now.P50 < 8 || e.Now.P50 > 12 || len(e.History.Rate) == 0 {
				t.Errorf("endpoint = %+v", e)
			}
		}
		if got < 0.999 || got > 1.001 {
			t.Errorf("shares add up to %v, want 1", got)
		}
		if want := []Pair{{"db_password", redacted}, {"version", "1"}}; len(v.Endpoints[0].Meta) != 2 || v.Endpoints[0].Meta[0] != want[0] || v.Endpoints[0].Meta[1] != want[1] {
			t.Errorf("meta = %v, want %v", v.Endpoints[0].Meta, want)
		}
		if v := view[ServiceView](t, c, "/api/service?service=orders&limit=1"); len(v.Endpoints) != 1 || v.Total != 2 {
			t.Errorf("limit=1: %d endpoints of %d, want 1 of 2", len(v.Endpoints), v.Total)
		}
		for _, target := range []string{"/api/service?service=nobody", "/api/service?service=orders&mesh=9", "/api/policy?service=orders&policy=none", "/api/nothing"} {
			if w := ask(c, target); w.Code != http.StatusNotFound {
				t.Errorf("GET %s: %d, want 404", target, w.Code)
			}
		}
		for _, target := range []string{"/api/service", "/api/service?service=orders&limit=x", "/api/events?after=-1", "/api/failures?limit=x", "/api/stream?limit=x"} {
			if w := ask(c, target); w.Code != http.StatusBadRequest {
				t.Errorf("GET %s: %d, want 400", target, w.Code)
			}
		}
	})
}

func TestPolicySaysWhereValuesAreFrom(t *testing.T) {
	c := open(t, Config{})
	mesh(t, c.Hooks(), twoServices, zerohop.Spec{
		Defaults: zerohop.Policy{Retry: zerohop.Retry{Attempts: 4}},
		Services: map[string]zerohop.Policy{"orders": {Timeout: 2 * time.Second, Hash: []zerohop.HashSource{{Header: "X-User"}}, Balance: "rendezvous"}},
		Policies: map[string]zerohop.Policy{"slow": {Timeout: 9 * time.Second, Select: zerohop.Select{Match: map[string]string{"version": "2", "api-key": "hunter2"}}}},
		Routes:   []routing.Rule{{Match: routing.Match{Service: "orders"}, Policy: "slow"}},
	})
	for policy, want := range map[string]map[string]PolicyField{
		"": {"timeout": {"timeout", "2s", "services.orders"}, "retry.attempts": {"retry.attempts", "4", "defaults"}, "hash": {"hash", "header X-User", "services.orders"}},
		"slow": {
			"timeout":      {"timeout", "9s", "policies.slow"},
			"select.match": {"select.match", "api-key=" + redacted + ", version=2", "policies.slow"},
			"balance":      {"balance", "rendezvous", "services.orders"},
			"outlier.mode": {"outlier.mode", "on", "built-in"},
		},
	} {
		v := view[PolicyView](t, c, "/api/policy?service=orders&policy="+url.QueryEscape(policy))
		got := map[string]PolicyField{}
		for _, f := range v.Fields {
			got[f.Path] = f
		}
		for path, f := range want {
			if got[path] != f {
				t.Errorf("policy %q: %s = %+v, want %+v", policy, path, got[path], f)
			}
		}
		if len(v.Policies) != 1 || v.Policies[0] != "slow" || v.Generation != 1 {
			t.Errorf("policy %q: %+v", policy, v)
		}
	}
}

func TestRoutesCountTheirBackends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, Config{})
		m := mesh(t, c.Hooks(), twoServices, zerohop.Spec{Routes: []routing.Rule{
			{Match: routing.Match{Service: "shop", Headers: []routing.Field{{Name: "X-Beta", Value: "hunter2"}}}, Backends: []routing.Backend{{Service: "stock"}}},
			{Name: "split", Match: routing.Match{Service: "shop"}, Backends: []routing.Backend{{Service: "orders", Weight: 1}, {Service: "stock", Weight: 3}}},
			{Name: "plain", Match: routing.Match{Service: "stock"}},
		}})
		for range 400 {
			_ = call(t.Context(), m, "shop", time.Millisecond, nil)
		}
		for range 10 {
			_ = call(t.Context(), m, "stock", time.Millisecond, nil)
		}
		time.Sleep(tick)
		synctest.Wait()
		v := view[RoutesView](t, c, "/api/routes")
		if len(v.Routes) != 3 {
			t.Fatalf("routes = %+v", v.Routes)
		}
		split := v.Routes[1]
		a, b := split.Backends[0], split.Backends[1]
		if split.Calls != 400 || a.Calls+b.Calls != 400 || a.Share != 0.25 || b.Share != 0.75 || a.Got < 0.15 || a.Got > 0.35 {
			t.Errorf("split = %+v, want 400 calls, about a quarter to orders", split)
		}
		if plain := v.Routes[2]; plain.Calls != 10 || len(plain.Backends) != 1 || plain.Backends[0].Got != 1 {
			t.Errorf("plain = %+v, want 10 calls", plain)
		}
		if none := v.Routes[0]; none.Calls != 0 || none.Backends[0].Got != -1 || none.Matches[0] != "service shop, header X-Beta" {
			t.Errorf("no calls = %+v", none)
		}
		if v := view[RoutesView](t, c, "/api/routes?service=orders"); len(v.Routes) != 1 || v.Routes[0].Name != "split" {
			t.Errorf("routes of orders = %+v, want split", v.Routes)
		}
		spec, _ := m.Spec()
		spec.Routes = spec.Routes[2:]
		if _, err := m.Update(spec); err != nil {
			t.Fatal(err)
		}
		time.Sleep(fresh)
		if v := view[RoutesView](t, c, "/api/routes"); len(v.Routes) != 1 || v.Routes[0].Calls != 0 {
			t.Errorf("after an update: %+v, want one route without calls", v.Routes)
		}
		events := view[EventsView](t, c, "/api/events").Events
		if !slices.ContainsFunc(events, func(e Event) bool {
			return e.Kind == "spec applied" && strings.Contains(e.Text, "generation 2: routes")
		}) {
			t.Errorf("events = %+v, want that a spec was applied", events)
		}
	})
}

func TestTopologyJoinsMeshesByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, Config{Name: "shop"})
		shop := mesh(t, c.Hooks(), twoServices, zerohop.Spec{})
		orders := mesh(t, c.Named("orders"), twoServices, zerohop.Spec{})
		for range 20 {
			_ = call(t.Context(), shop, "orders", time.Millisecond, nil)
			_ = call(t.Context(), orders, "stock", time.Millisecond, nil)
		}
		time.Sleep(tick)
		synctest.Wait()
		v := view[TopologyView](t, c, "/api/topology")
		if len(v.Nodes) != 3 || len(v.Edges) != 2 {
			t.Fatalf("topology = %+v, want 3 nodes and 2 edges", v)
		}
		if n := v.Nodes[0]; n.ID != "orders" || n.Mesh != "2" || !n.Service || len(n.Zones) != 2 {
			t.Errorf("orders = %+v, want a mesh that is a service", n)
		}
		if e := v.Edges[0]; e.From != "shop" || e.To != "orders" || e.Now.Rate == 0 {
			t.Errorf("edge = %+v, want shop to orders", e)
		}
		_ = orders.Close()
		if v := view[TopologyView](t, c, "/api/topology"); len(v.Edges) != 1 {
			t.Errorf("after a mesh was closed: %+v, want one edge", v.Edges)
		}
		if n := c.services.Load(); n != 1 {
			t.Errorf("%d services have counts, want 1: those of the closed mesh are let go", n)
		}
	})
}

func TestTopologyHasWhatComesIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, Config{Name: "shop"})
		var all, failed atomic.Int64
		all.Store(1_000_000) // before anybody looked
		c.Inbound("http", func() (int64, int64) { return all.Load(), failed.Load() })
		m := mesh(t, c.Hooks(), twoServices, zerohop.Spec{})
		_ = call(t.Context(), m, "orders", time.Millisecond, nil)
		all.Add(400)
		failed.Add(100)
		time.Sleep(2*tick + time.Millisecond)
		synctest.Wait()
		v := view[TopologyView](t, c, "/api/topology")
		want := TopologyEdge{From: `\:http`, To: "shop", Now: Traffic{Rate: 100, Errors: 0.25}}
		if i := slices.IndexFunc(v.Edges, func(e TopologyEdge) bool { return e.From == want.From }); i < 0 || v.Edges[i] != want || len(v.Edges) != 2 {
			t.Errorf("edges = %+v, want %+v among two", v.Edges, want)
		}
		if i := slices.IndexFunc(v.Nodes, func(n TopologyNode) bool { return n.ID == want.From }); i < 0 || !v.Nodes[i].Callers || v.Nodes[i].Name != "http" || len(v.Nodes) != 3 {
			t.Errorf("nodes = %+v, want the callers among three", v.Nodes)
		}
		// A call that came before fails when nothing else comes: there is no share of nothing, and none above 1.
		time.Sleep(window * tick)
		all.Add(1)
		failed.Add(2)
		time.Sleep(tick)
		synctest.Wait()
		for _, e := range view[TopologyView](t, c, "/api/topology").Edges {
			if e.From == want.From && (e.Now.Errors != 1 || e.Now.Rate != 0.1) {
				t.Errorf("edge = %+v, want all of them failed", e)
			}
		}
		for target, want := range map[string]int{"?mesh=1": 2, "?service=orders": 1, "?mesh=9": 0} {
			if v := view[TopologyView](t, c, "/api/topology"+target); len(v.Edges) != want {
				t.Errorf("%s: %d edges, want %d: %+v", target, len(v.Edges), want, v.Edges)
			}
		}
		for range MaxServers + 1 { // one that is there is replaced
			c.Inbound("http", func() (int64, int64) { return 0, 0 })
		}
		for i := range MaxServers {
			c.Inbound(fmt.Sprint("more-", i), func() (int64, int64) { return 0, 0 })
		}
		if n := len(c.inbound); n != MaxServers {
			t.Errorf("%d servers, want %d", n, MaxServers)
		}
	})
}

package console

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// atRest checks that a console without meshes keeps counts of nothing.
func atRest(t *testing.T, c *Console) {
	t.Helper()
	if s, r, e := c.services.Load(), c.routes.Load(), c.endpoints.Load(); s != 0 || r != 0 || e != 0 {
		t.Errorf("%d services, %d routes and %d endpoints have counts without a mesh, want none", s, r, e)
	}
}

func TestCallsThatOutliveTheirMeshLeaveNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, Config{})
		for range 5 {
			m := mesh(t, c.Hooks(), twoServices, zerohop.Spec{Routes: []routing.Rule{{Backends: []routing.Backend{{Service: "stock"}}, Match: routing.Match{Service: "orders"}}}})
			var calls sync.WaitGroup
			calls.Go(func() { _ = call(t.Context(), m, "orders", time.Second, errDown) })
			time.Sleep(time.Millisecond)
			_ = m.Close()
			_ = call(t.Context(), m, "orders", 0, nil) // is told of by Explained alone
			calls.Wait()
		}
		atRest(t, c)
		if n := c.uncounted.Load(); n != 0 {
			t.Errorf("%d uncounted, want 0: there is room", n)
		}
	})
}

func TestMeshesBeyondThoseShownLeaveNothing(t *testing.T) {
	c := open(t, Config{})
	var list []*zerohop.Mesh
	for range MaxMeshes + 2 {
		m := mesh(t, c.Hooks(), twoServices, zerohop.Spec{})
		if err := call(t.Context(), m, "orders", 0, nil); err != nil {
			t.Fatal(err)
		}
		list = append(list, m)
	}
	if n := c.services.Load(); n != MaxMeshes {
		t.Errorf("%d services have counts, want those of the %d meshes that are shown", n, MaxMeshes)
	}
	for _, m := range list {
		_ = m.Close()
	}
	atRest(t, c)
}

// Those that cannot be a service may come from outside, as many as somebody likes.
func TestNamesThatAreNoServiceTakeNoRoom(t *testing.T) {
	c := open(t, Config{})
	m := mesh(t, c.Hooks(), twoServices, zerohop.Spec{})
	for i := range 100 {
		if err := call(t.Context(), m, fmt.Sprint(strings.Repeat("x", 300), i), 0, nil); err == nil {
			t.Fatal("a call to no service succeeded")
		}
	}
	if n := c.services.Load(); n != 0 {
		t.Errorf("%d services have counts, want 0", n)
	}
	if n := len(view[FailuresView](t, c, "/api/failures").Failures); n == 0 || n > 20 {
		t.Errorf("%d failures are kept, want a few", n)
	}
}

// A storm of calls, meshes that come and go, specs that change, and readers of all views.
func TestEverythingAtOnce(t *testing.T) {
	c := open(t, Config{MaxStreams: 100})
	ctx, stop := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer stop()
	var all sync.WaitGroup
	h := c.Hooks()
	nodes := make([]*loadbalance.Node, 50)
	for i := range nodes {
		nodes[i] = aNode(t, fmt.Sprintf("10.0.0.%d:80", i+1))
	}
	for g := range 100 {
		all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				info := zerohop.CallInfo{Service: fmt.Sprint("s", (g*7+i)%1000), Rule: int16(i % 5), Backend: int16(g % 2), Route: fmt.Sprint(i % 3)}
				observed(&h, ctx, &info, nodes[i%len(nodes)], time.Duration(i))
				h.Refused(ctx, info, zerohop.Refusal{Enforced: true})
				h.Explained(ctx, &zerohop.Explanation{CallInfo: info, Reason: zerohop.Failed})
				h.State(info.Service, zerohop.StateEvent{Kind: zerohop.StateEjected, Addr: info.Route})
				if i%64 == 0 {
					time.Sleep(time.Millisecond) // leaves the others a turn
				}
			}
		})
	}
	for g := range 4 {
		all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				m, err := zerohop.New(zerohop.Config{Resolver: twoServices, Hooks: c.Named(fmt.Sprint("m", g))})
				if err != nil {
					t.Error(err)
					return
				}
				_ = call(ctx, m, "orders", 0, nil)
				_, _ = m.Update(zerohop.Spec{Services: map[string]zerohop.Policy{"stock": {Timeout: time.Duration(i+1) * time.Second}}})
				_ = call(ctx, m, "stock", 0, errDown)
				_ = m.Close()
			}
		})
	}
	for _, target := range []string{"summary", "service?service=orders", "policy?service=stock", "routes", "failures", "events", "topology"} {
		all.Go(func() {
			for ctx.Err() == nil {
				if w := ask(c, "/api/"+target); w.Code != http.StatusOK && w.Code != http.StatusNotFound {
					t.Errorf("%s: %d", target, w.Code)
				}
				c.sample()
			}
		})
	}
	all.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.meshes) != 0 {
		t.Errorf("%d meshes are open, want 0", len(c.meshes))
	}
}

func TestServicesComeAndGo(t *testing.T) {
	c := open(t, Config{})
	r := discovery.Static{}
	for i := range 1000 {
		r[fmt.Sprint("dynamic-", i)] = []discovery.Endpoint{{Addr: fmt.Sprintf("10.1.%d.%d:80", i/200, i%200+1)}}
	}
	for range 2 {
		m := mesh(t, c.Hooks(), r, zerohop.Spec{})
		for name := range r {
			if err := call(t.Context(), m, name, 0, nil); err != nil {
				t.Fatal(err)
			}
		}
		c.sample()
		if n := len(view[Summary](t, c, "/api/summary").Services); n != 1000 {
			t.Errorf("%d services, want 1000", n)
		}
		_ = m.Close()
	}
	atRest(t, c)
}

func TestWhatIsKeptOfFailuresIsSmall(t *testing.T) {
	c := open(t, Config{})
	h := c.Hooks()
	e := &zerohop.Explanation{CallInfo: zerohop.CallInfo{Service: "orders", Host: strings.Repeat("<", 1<<20)}, CallResult: zerohop.CallResult{Outcome: resilience.Failure}, Reason: zerohop.Failed}
	h.Explained(t.Context(), e)
	if kept := c.failures.list[0].e; len(kept.Host) > 2*maxText || len(e.Host) != 1<<20 {
		t.Errorf("%d bytes of the host are kept, want few, and those of the caller as they were", len(kept.Host))
	}
	if w := ask(c, "/api/failures"); w.Code != http.StatusOK || w.Body.Len() > 64<<10 {
		t.Errorf("%d with %d bytes, want a short answer", w.Code, w.Body.Len())
	}
}

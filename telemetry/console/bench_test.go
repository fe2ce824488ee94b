package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// aNode returns an endpoint to attempt something at.
func aNode(t testing.TB, addr string) *loadbalance.Node {
	b := loadbalance.New(loadbalance.Config{})
	b.Update([]discovery.Endpoint{{Addr: addr}})
	p, err := b.Pick(loadbalance.Info{})
	if err != nil {
		t.Fatal(err)
	}
	p.Done(loadbalance.Report{})
	return p.Node()
}

// observed makes the hooks see a call with one attempt.
func observed(h *zerohop.Hooks, ctx context.Context, info *zerohop.CallInfo, node *loadbalance.Node, d time.Duration) {
	h.AttemptDone(ctx, *info, zerohop.AttemptInfo{Node: node}, zerohop.AttemptResult{Status: 200, Latency: d, Duration: d})
	h.CallDone(ctx, *info, zerohop.CallResult{Attempts: 1, Status: 200, Duration: d})
}

func BenchmarkHooks(b *testing.B) {
	for _, services := range []int{1, 500} {
		for _, routed := range []bool{false, true} {
			b.Run(fmt.Sprintf("services=%d/routed=%t", services, routed), func(b *testing.B) {
				c := open(b, Config{})
				h := c.Hooks()
				calls := make([]zerohop.CallInfo, services)
				nodes := make([]*loadbalance.Node, services)
				for i := range calls {
					calls[i] = zerohop.CallInfo{Service: fmt.Sprint("service-", i), Host: "h", Protocol: "http", Method: "GET", Rule: -1, Backend: -1}
					if routed {
						calls[i].Rule, calls[i].Backend, calls[i].Route = 3, 0, "canary"
					}
					nodes[i] = aNode(b, fmt.Sprintf("10.0.%d.%d:80", i/200, i%200+1))
					observed(&h, b.Context(), &calls[i], nodes[i], time.Millisecond)
				}
				ctx := b.Context()
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					observed(&h, ctx, &calls[i], nodes[i], time.Duration(i)*time.Microsecond)
					if i++; i == services {
						i = 0
					}
				}
			})
		}
	}
}

func BenchmarkHooksParallel(b *testing.B) {
	c := open(b, Config{})
	h := c.Hooks()
	info := zerohop.CallInfo{Service: "orders", Rule: -1, Backend: -1}
	node := aNode(b, "10.0.0.1:80")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			observed(&h, context.Background(), &info, node, time.Millisecond)
		}
	})
}

func TestHooksDoNotAllocate(t *testing.T) {
	c := open(t, Config{})
	h := c.Hooks()
	info := zerohop.CallInfo{Service: "orders", Rule: 2, Backend: 1, Route: "canary"}
	node := aNode(t, "10.0.0.1:80")
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() { observed(&h, ctx, &info, node, time.Millisecond) }); n != 0 {
		t.Errorf("%v allocations a call, want 0", n)
	}
	refusal := zerohop.Refusal{Stage: zerohop.StageLimit, Enforced: true}
	if n := testing.AllocsPerRun(1000, func() { h.Refused(ctx, info, refusal) }); n != 0 {
		t.Errorf("%v allocations a refusal, want 0", n)
	}
	e := &zerohop.Explanation{CallInfo: info, CallResult: zerohop.CallResult{Outcome: resilience.Failure}}
	for range 10 {
		h.Explained(ctx, e)
	}
	if n := testing.AllocsPerRun(100, func() { h.Explained(ctx, e) }); n > 0.2 {
		t.Errorf("%v allocations a failure beyond those that are kept, want 0", n)
	}
}

// crowd returns a console with a mesh of so many services and endpoints that all have had traffic.
func crowd(t testing.TB, services, endpoints int) (*Console, *zerohop.Mesh) {
	t.Helper()
	c := open(t, Config{})
	h := c.Hooks()
	r, spec := discovery.Static{}, zerohop.Spec{Services: map[string]zerohop.Policy{}}
	for i := range services {
		name := fmt.Sprintf("service-%03d", i)
		spec.Services[name] = zerohop.Policy{Balance: "weighted-round-robin"}
		for j := range endpoints {
			r[name] = append(r[name], discovery.Endpoint{Addr: fmt.Sprintf("10.%d.%d.%d:80", i/200, i%200, j+1), Zone: fmt.Sprint("zone-", j%3), Meta: map[string]string{"version": "1"}})
		}
	}
	m := mesh(t, h, r, spec)
	for name := range spec.Services {
		for i := range 2 * endpoints {
			_, err := zerohop.Do(t.Context(), m, name, func(context.Context, *loadbalance.Node) (int, error) { return 0, nil })
			if err != nil && i == 0 {
				t.Fatal(err)
			}
		}
	}
	c.sample()
	return c, m
}

func BenchmarkCrowd(b *testing.B) {
	c, m := crowd(b, 500, 20)
	o := c.open()[0]
	b.Run("state", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.State()
		}
	})
	b.Run("sample/idle", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c.sample()
		}
	})
	b.Run("sample/busy", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			for _, e := range o.collector.sampled() {
				e.count(time.Millisecond, false, false)
			}
			for _, s := range *o.collector.services.Load() {
				s.shard(0).count(time.Millisecond, false, false)
			}
			b.StartTimer()
			c.sample()
		}
	})
	b.Run("summary", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			o.stale()
			c.sum()
		}
	})
	b.Run("summary/json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			o.stale()
			data, err := json.Marshal(c.sum())
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(len(data)), "B")
		}
	})
	b.Run("service/json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			o.stale()
			v, _ := c.service("", "service-007", 200)
			data, _ := json.Marshal(v)
			b.ReportMetric(float64(len(data)), "B")
		}
	})
	b.Run("stream/tick", func(b *testing.B) {
		w := httptest.NewRecorder()
		s := &sender{console: c, to: http.NewResponseController(w), w: w, service: "service-007", limit: 200, lines: map[ServiceName]ServiceLine{}}
		if err := s.send(); err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			o.stale()
			w.Body.Reset()
			if err := s.send(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(w.Body.Len()), "B")
		}
	})
}

// The sums that the documentation names.
func TestMemoryIsWhatTheDocumentationSays(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector has memory of its own")
	}
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	nodes := make([]*loadbalance.Node, MaxEndpoints)
	for i := range nodes {
		nodes[i] = aNode(t, fmt.Sprintf("10.%d.%d.%d:80", i/40_000, i/200%200, i%200+1))
	}
	for _, test := range []struct {
		what                string
		services, endpoints int
		all                 bool // that can be kept
		most                uint64
	}{
		{"500 services of 20 endpoints", 500, 10_000, false, 40e6},
		{"all bounds", MaxServices, MaxEndpoints, true, 110e6},
	} {
		c := open(t, Config{})
		h := c.Hooks()
		before := heap()
		for i, n := range nodes[:test.endpoints] {
			info := zerohop.CallInfo{Service: fmt.Sprint("service-", i%test.services), Rule: -1, Backend: -1}
			if test.all && i < MaxRoutes {
				info.Rule, info.Backend, info.Route = int16(i/4), int16(i%4), fmt.Sprint("route-", i/4)
			}
			observed(&h, t.Context(), &info, n, time.Millisecond)
		}
		if test.all {
			long := strings.Repeat("x", maxText)
			for i := range MaxEvents {
				h.State(fmt.Sprint("service-", i), zerohop.StateEvent{Kind: zerohop.StateEjected, Addr: fmt.Sprint(i, long), Cause: long, Why: long, Zone: long})
			}
			for i := range MaxFailures {
				e := &zerohop.Explanation{CallInfo: zerohop.CallInfo{Service: fmt.Sprint("service-", i), Host: strings.Clone(long), Method: strings.Clone(long)}, Reason: zerohop.Failed, Error: strings.Clone(long), N: resilience.MaxAttempts}
				for k := range e.Tries {
					e.Tries[k].Error = strings.Clone(long)
				}
				h.Explained(t.Context(), e)
			}
			for range MaxServers {
				c.Inbound(strings.Clone(long), func() (int64, int64) { return 0, 0 })
			}
			if s, r, e, f := c.services.Load(), c.routes.Load(), c.endpoints.Load(), len(c.failures.list); s != MaxServices || r != MaxRoutes || e != MaxEndpoints || f != MaxFailures || len(c.timeline.list) != MaxEvents {
				t.Errorf("%d services, %d routes, %d endpoints, %d failures and %d events, want all there may be", s, r, e, f, len(c.timeline.list))
			}
		}
		c.sample()
		used := heap() - before
		t.Logf("%s: %.1f MB", test.what, float64(used)/1e6)
		if used > test.most {
			t.Errorf("%s take %d bytes, want at most %d", test.what, used, test.most)
		}
		_ = c.Close()
		runtime.KeepAlive(c)
	}
	runtime.KeepAlive(nodes)
}

//go:build unix

package faulttest

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
)

// Three zones of four backends each serve the callers of their zone. One has a fifth of its capacity for a while, which is
// less than half of what its callers want.
func TestZoneThatBrownsOutIsHardlySeen(t *testing.T) {
	t.Parallel()
	const rate = 240 // of all callers
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			var crossing [3]float64 // before, during, after
			promise(t, func() result {
				list := startBackends(t, 12, capacity{Workers: 2, Queue: 100, Mean: 40 * time.Millisecond})
				zoneOf := map[string]string{}
				var eps []discovery.Endpoint
				for i, a := range p.addrs(list) {
					zoneOf[a] = fmt.Sprint("zone", i/4)
					eps = append(eps, discovery.Endpoint{Addr: a, Zone: zoneOf[a]})
				}
				var all, crossed, turn atomic.Int64
				var callers []caller
				for i := range 3 {
					zone := fmt.Sprint("zone", i)
					m, err := zerohop.New(zerohop.Config{
						Resolver: discovery.Static{service: eps}, Zone: zone,
						Hooks: zerohop.Hooks{AttemptDone: func(_ context.Context, _ zerohop.CallInfo, a zerohop.AttemptInfo, _ zerohop.AttemptResult) {
							if a.Node == nil {
								return
							}
							all.Add(1)
							if zoneOf[a.Node.Addr()] != zone {
								crossed.Add(1)
							}
						}},
					})
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { m.Close() })
					callers = append(callers, p.meshed(t, m, service))
				}
				call := func(ctx context.Context) error { return callers[turn.Add(1)%3](ctx) }
				run := func(k int, what string, d time.Duration) result {
					n, x := all.Load(), crossed.Load()
					l := startLoad(t, rate, call)
					l.until(d)
					r := l.stop()
					r.still = standstill(t, list, l.began)
					crossing[k] = float64(crossed.Load()-x) / float64(all.Load()-n)
					r.log(t, fmt.Sprintf("%s %s, %.4f of the attempts cross zones", p.name, what, crossing[k]))
					return r
				}
				become := func(m mode) {
					for _, b := range list[4:8] {
						b.become(t, m)
					}
				}
				run(0, "warm-up", 2*time.Second)
				run(0, "before", 4*time.Second)
				become(tired)
				r := run(1, "while a zone is slow", 10*time.Second)
				become(healthy)
				run(2, "while it recovers", 8*time.Second)
				run(2, "after", 4*time.Second)
				return r
			}, okAtLeast(0.999), func(result) string {
				if x := max(crossing[0], crossing[2]); x > 0.05 || crossing[1] < 0.1 {
					return fmt.Sprintf("parts of the attempts that cross zones before, during and after = %.4f, want <= 0.05, >= 0.1, <= 0.05", crossing)
				}
				return ""
			})
		})
	}
}

// While all backends fail, calls end, and 2 s after all are well every call is answered.
func TestServiceRecoversWhenAllBackendsDo(t *testing.T) {
	t.Parallel()
	const rate = 150
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			promise(t, func() result {
				list := startBackends(t, 4, capacity{Workers: 8, Queue: 100, Mean: 10 * time.Millisecond, Fixed: true})
				tr := newTrial(t, p, list, rate)
				for _, b := range list {
					b.become(t, failing)
				}
				down := tr.run(t, "all fail", rate, func(l *load) { l.until(5 * time.Second) })
				if down.held() && (down.max > 500*time.Millisecond || down.okShare() > 0.1) {
					t.Errorf("while all fail %.3f of the calls succeed and one takes %v", down.okShare(), down.max)
				}
				for _, b := range list {
					b.become(t, healthy)
				}
				tr.run(t, "the first 2 s after", rate, func(l *load) { l.until(2 * time.Second) })
				return tr.run(t, "later", rate, func(l *load) { l.until(3 * time.Second) })
			}, okAtLeast(1), shareAtMost(0, 0.5), shareAtMost(1, 0.5), shareAtMost(2, 0.5), shareAtMost(3, 0.5))
		})
	}
}

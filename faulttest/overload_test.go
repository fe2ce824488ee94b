//go:build unix

package faulttest

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
)

// A backend that says when to come back, by 503 or 429 with Retry-After or by RESOURCE_EXHAUSTED, is given the time, but
// is not taken for dead, however many calls it turns away in a row: by default few, and hundreds where picks are at random
// and do not look at how calls went. One that fails as often is.
func TestOverloadIsNoDeath(t *testing.T) {
	t.Parallel()
	const rate = 300
	for _, p := range protocols {
		for _, c := range []struct {
			mode    mode
			balance string
			ejects  bool
		}{{busy, "", false}, {limited, "", false}, {busy, "random", false}, {limited, "random", false}, {collapsing, "random", true}} {
			t.Run(fmt.Sprintf("%s, %s, %s", p.name, c.mode, c.balance), func(t *testing.T) {
				var got []int
				var ejected, rested *atomic.Bool
				promise(t, func() result {
					list := startBackends(t, 3, capacity{Workers: 50, Queue: 100, Mean: 5 * time.Millisecond, Fixed: true})
					policy := zerohop.Policy{Balance: c.balance}
					if c.balance != "" { // a call that takes so long as a refusal does would be taken for hanging
						policy.Backup.Mode = zerohop.Off
					}
					m, _ := newMeshWith(t, static(p.addrs(list)), policy)
					crowd := &crowd{backends: list, calls: []caller{p.meshed(t, m, service)}, lost: make([]atomic.Int64, 1)}
					warm := startLoad(t, rate, crowd.call)
					warm.until(500 * time.Millisecond)
					warm.stop()
					ejected, rested = watchHealth(t, m, p.addr(list[0]))
					list[0].become(t, c.mode)
					began := crowd.arrived(t)
					l := startLoad(t, rate, crowd.call)
					l.until(2 * time.Second)
					r := l.stop()
					got = minus(crowd.arrived(t), began)
					r.still = standstill(t, list, l.began)
					t.Logf("%d calls, %d good; requests %v; ejected %v, rested %v", r.calls, r.ok, got, ejected.Load(), rested.Load())
					return r
				}, func(result) string {
					if e := ejected.Load(); e != c.ejects || !rested.Load() {
						return fmt.Sprintf("ejected = %v, rested = %v, want %v, true", e, rested.Load(), c.ejects)
					}
					return ""
				}, func(r result) string {
					switch {
					case c.balance == "" && (got[0] == 0 || got[0] > r.calls/50 || r.ok < r.calls):
						return fmt.Sprintf("the backend got %d of %d calls, of which %d failed, want a fiftieth at most and none", got[0], r.calls, r.calls-r.ok)
					case c.balance != "" && got[0] < 10:
						return fmt.Sprintf("the backend turned away %d calls, want more than eject", got[0])
					}
					return ""
				})
			})
		}
	}
}

// watchHealth looks every few milliseconds, until the test ends, whether a node is ejected, and whether it is left alone.
func watchHealth(t *testing.T, m *zerohop.Mesh, addr string) (ejected, rested *atomic.Bool) {
	t.Helper()
	ejected, rested = new(atomic.Bool), new(atomic.Bool)
	var known atomic.Pointer[zerohop.Endpoints]
	stop, err := m.Subscribe(service, func(e zerohop.Endpoints) { known.Store(&e) })
	if err != nil {
		t.Fatal(err)
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case now := <-tick.C:
				for _, n := range known.Load().Balancer.Set().Nodes() {
					if n.Addr() == addr {
						ejected.Store(ejected.Load() || n.Ejected())
						rested.Store(rested.Load() || n.Penalized(now))
					}
				}
			}
		}
	}()
	t.Cleanup(func() { close(quit); <-done; stop() })
	return ejected, rested
}

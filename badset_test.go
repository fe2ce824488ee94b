package zerohop

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/discoverytest"
	"github.com/zerohop/zerohop/loadbalance"
)

// What a registry says of weights and addresses stops no call, whatever the algorithm, and what is left out is told.
func TestBadSetsStopNoCalls(t *testing.T) {
	weights := func(ws ...uint32) (eps []discovery.Endpoint) {
		for i, w := range ws {
			eps = append(eps, discovery.Endpoint{Addr: fmt.Sprintf("10.0.0.%d:80", i+1), Weight: w})
		}
		return eps
	}
	million := make([]discovery.Endpoint, 1_000_000)
	for i := range million {
		million[i].Addr = fmt.Sprintf("10.%d.%d.%d:80", i>>16, i>>8&255, i&255)
	}
	for _, c := range []struct {
		name string
		eps  []discovery.Endpoint
		want discovery.EventKind
		used int // endpoints; those of the set before if the answer is of no use
	}{
		{"weights of 0", weights(0, 0, 0), discovery.EventPublished, 3},
		{"a weight of 0", weights(0, 5), discovery.EventPublished, 2},
		{"weights that overflow", weights(math.MaxUint32, math.MaxInt32, 2, 1<<31), discovery.EventEndpointsDropped, 4},
		{"duplicates", append(weights(1, 2), weights(3, 4)...), discovery.EventEndpointsDropped, 2},
		{"addresses that are none", append(weights(1), discovery.Endpoint{Addr: "x"}, discovery.Endpoint{Addr: "\x00:1"}), discovery.EventEndpointsDropped, 1},
		{"a million endpoints", million, discovery.EventAnswerRejected, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for name := range balancers {
					var source discoverytest.Memory
					source.Set("orders", weights(1)...)
					var last discovery.Event
					var kinds [16]int
					m := open(t, Config{
						Resolver: &source, Spec: Spec{Defaults: Policy{Balance: name}},
						Hooks: Hooks{Discovery: func(_ string, ev discovery.Event) { last = ev; kinds[ev.Kind]++ }},
					})
					call := func() {
						_, err := Do(t.Context(), m, "orders", func(_ context.Context, n *loadbalance.Node) (int, error) { return 0, nil })
						if err != nil {
							t.Errorf("%s: Do() = %v", name, err)
						}
					}
					call()
					source.Set("orders", c.eps...)
					synctest.Wait()
					for range 100 {
						call()
					}
					if kinds[c.want] == 0 || last.Endpoints != c.used {
						t.Errorf("%s: last event %+v, want %v and %d endpoints in use", name, last, c.want, c.used)
					}
					m.Close()
				}
			})
		})
	}
}

// Calls go on, and only to endpoints that the source has named within the last 100 ms, while the set is another one every
// 10 ms.
func TestSetsThatSwapStopNoCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var source discoverytest.Memory
		const stale = 10 // generations
		var generation atomic.Int64
		swap := func(i int) {
			generation.Store(int64(i))
			source.Set("orders", discovery.Endpoint{Addr: fmt.Sprintf("10.0.1.1:%d", i+1)}, discovery.Endpoint{Addr: fmt.Sprintf("10.0.2.1:%d", i+1)})
		}
		swap(0)
		m := open(t, Config{Resolver: &source})
		for i := range 1000 {
			swap(i)
			for range 5 {
				_, err := Do(t.Context(), m, "orders", func(_ context.Context, n *loadbalance.Node) (int, error) {
					var host, port int
					if _, err := fmt.Sscanf(n.Addr(), "10.0.%d.1:%d", &host, &port); err != nil || int64(port) < generation.Load()-stale {
						t.Errorf("picked %s at generation %d", n.Addr(), generation.Load())
					}
					time.Sleep(ms)
					return 0, nil
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(5 * ms)
		}
	})
}

const ms = time.Millisecond

package zerohop

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
)

// BenchmarkHugeSet measures how long a set of 10,000 endpoints takes from the resolver to the picks of calls: when it is the first
// one, and when a tenth of it is others. It reports the longest pick while that happens, and what a mesh keeps of a thousand
// endpoints.
func BenchmarkHugeSet(b *testing.B) {
	const size = 10_000
	set := func(from int) []discovery.Endpoint {
		eps := make([]discovery.Endpoint, size)
		for i := range eps {
			n := from + i
			eps[i] = discovery.Endpoint{
				Addr: fmt.Sprintf("10.%d.%d.%d:8080", n>>16, n>>8&255, n&255), Zone: "a", Meta: map[string]string{"version": "1"},
			}
		}
		return eps
	}
	var first, change, slowest time.Duration
	var kept uint64
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	b.ReportAllocs()
	for b.Loop() {
		one, other := set(0), set(size/10)
		before := heap()
		next, done := make(chan []discovery.Endpoint), make(chan time.Duration)
		m, err := New(Config{Resolver: resolverFunc(func(ctx context.Context, _ string, update func([]discovery.Endpoint)) error {
			for {
				select {
				case answer := <-next:
					start := time.Now()
					update(answer)
					done <- time.Since(start)
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}), Spec: Spec{Services: map[string]Policy{"orders": {}}}})
		if err != nil {
			b.Fatal(err)
		}
		next <- one
		first += <-done
		balancer := m.known()["orders"].balancer
		kept += heap() - before
		stop := make(chan struct{})
		var picking sync.WaitGroup
		picking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				start := time.Now()
				p, err := balancer.Pick(loadbalance.Info{Now: start})
				slowest = max(slowest, time.Since(start))
				if err != nil {
					b.Error(err)
					return
				}
				p.Done(loadbalance.Report{Now: start, Latency: time.Millisecond})
			}
		})
		next <- other
		change += <-done
		close(stop)
		picking.Wait()
		m.Close()
	}
	n := float64(b.N)
	b.ReportMetric(float64(first.Microseconds())/1000/n, "first-ms")
	b.ReportMetric(float64(change.Microseconds())/1000/n, "change-ms")
	b.ReportMetric(float64(slowest.Microseconds()), "slowest-pick-µs")
	b.ReportMetric(float64(kept)/n/size*1000/1024, "KiB/1000-endpoints")
}

package loadbalance

import (
	"fmt"
	"testing"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
)

var policies = []struct {
	name  string
	build Builder
}{
	{"PeakEWMA", PeakEWMA},
	{"LeastRequest", LeastRequest},
	{"Random", Random},
	{"WeightedRoundRobin", WeightedRoundRobin},
}

// endpoints returns n endpoints whose weights are taken from the list in turn.
func endpoints(n int, weights ...uint32) []discovery.Endpoint {
	eps := make([]discovery.Endpoint, n)
	for i := range eps {
		eps[i].Addr = fmt.Sprintf("10.0.%d.%d:80", i/250, i%250)
		if len(weights) > 0 {
			eps[i].Weight = weights[i%len(weights)]
		}
	}
	return eps
}

// BenchmarkPicker measures the choice alone, on nodes that have all been called.
func BenchmarkPicker(b *testing.B) {
	for _, p := range policies {
		for _, n := range []int{3, 100, 1000, 10_000} {
			b.Run(fmt.Sprintf("%s/n=%d", p.name, n), func(b *testing.B) {
				bal := New(Config{Builder: p.build})
				bal.Update(endpoints(n))
				set, now := bal.Set(), bal.base.Add(time.Second)
				for i, node := range set.Nodes() {
					node.cost.observe(time.Duration(i%500)*time.Millisecond, 10*time.Millisecond)
				}
				in := Info{Now: now}
				b.ReportAllocs()
				for b.Loop() {
					in.Random = next(in.Random)
					pick(set.levels[0].picker, &in)
				}
			})
		}
	}
}

// BenchmarkBalancer measures a pick with its Done and its draw of a random word. The times are steps
// of a loop: reading the clock is the caller's.
func BenchmarkBalancer(b *testing.B) {
	for _, p := range policies {
		for _, n := range []int{3, 100, 10_000} {
			bal := New(Config{Builder: p.build})
			bal.Update(endpoints(n))
			guarded := New(Config{Builder: p.build, Outlier: &OutlierConfig{}, SlowStart: &SlowStart{}})
			guarded.Update(endpoints(n))
			b.Run(fmt.Sprintf("%s/n=%d/ejection", p.name, n), func(b *testing.B) {
				b.ReportAllocs()
				now := time.Now()
				for b.Loop() {
					now = now.Add(10 * time.Microsecond)
					pick, _ := guarded.Pick(Info{Now: now})
					pick.Done(Report{Now: now, Outcome: resilience.Success, Latency: 10 * time.Millisecond})
				}
			})
			b.Run(fmt.Sprintf("%s/n=%d/serial", p.name, n), func(b *testing.B) {
				b.ReportAllocs()
				now := time.Now()
				for b.Loop() {
					now = now.Add(10 * time.Microsecond)
					pick, _ := bal.Pick(Info{Now: now})
					pick.Done(Report{Now: now, Outcome: resilience.Success, Latency: 10 * time.Millisecond})
				}
			})
			b.Run(fmt.Sprintf("%s/n=%d/parallel", p.name, n), func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					now := time.Now()
					for pb.Next() {
						now = now.Add(10 * time.Microsecond)
						pick, _ := bal.Pick(Info{Now: now})
						pick.Done(Report{Now: now, Outcome: resilience.Success, Latency: 10 * time.Millisecond})
					}
				})
			})
		}
	}
}

// BenchmarkUpdate replaces one endpoint.
func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			bal, eps := New(Config{}), endpoints(n)
			bal.Update(eps)
			addrs := [2]string{"10.1.0.1:80", "10.1.0.2:80"}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				eps[n/2].Addr = addrs[i%2]
				bal.Update(eps)
			}
		})
	}
}

package loadbalance

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
)

// algorithms are all there are.
var algorithms = append(policies[:len(policies):len(policies)], []struct {
	name  string
	build Builder
}{
	{"FiveChoices", LeastRequestConfig{Choices: 5}.LeastRequest},
	{"Prequal", Prequal},
	{"UtilizationRoundRobin", UtilizationRoundRobin},
	{"RingHash", RingHash},
	{"Maglev", Maglev},
	{"Rendezvous", Rendezvous},
}...)

// TestPicksNeverLeaveTheSet swaps sets a hundred times a second under sixteen goroutines, with everything switched on and
// calls of all outcomes: no pick that began after an update had returned goes to a node that the update removed.
func TestPicksNeverLeaveTheSet(t *testing.T) {
	const (
		updates = 50
		size    = 12
	)
	// Set i has the endpoints i to i+size of an endless list, so that each update removes one and adds one.
	addr := func(i int) string { return fmt.Sprintf("10.0.%d.%d:80", i>>8, i&255) }
	number := map[string]int64{}
	var list []discovery.Endpoint
	for i := range updates + size {
		number[addr(i)] = int64(i)
		list = append(list, discovery.Endpoint{
			Addr: addr(i), Weight: uint32(1 + i%3), Zone: []string{"a", "b"}[i%2], Priority: uint8(i % 5 / 4),
		})
	}
	for _, a := range algorithms {
		t.Run(a.name, func(t *testing.T) {
			b := New(Config{
				Builder:   a.build,
				Outlier:   &OutlierConfig{Latency: 3},
				SlowStart: &SlowStart{Window: 100 * time.Millisecond},
				Breaker:   &resilience.BreakerConfig{OpenFor: 20 * time.Millisecond},
				Locality:  Locality{Zone: "a"},
			})
			b.Update(list[:size])
			var begun, ended, picks atomic.Int64 // the updates, by their number
			var wg sync.WaitGroup
			for g := range 16 {
				wg.Go(func() {
					rnd := rand.New(rand.NewPCG(1, uint64(g)))
					var tried []*Node
					for ended.Load() < updates {
						first := ended.Load()
						p, err := b.Pick(Info{Now: time.Now(), Hash: rnd.Uint64() & 7, Avoid: tried})
						last := begun.Load()
						if errors.Is(err, ErrUnavailable) {
							continue
						}
						if err != nil || p.Node() == nil {
							t.Errorf("Pick() = %v, %v, want a node", p.Node(), err)
							return
						}
						if n := number[p.Node().Addr()]; n < first || n >= last+size {
							t.Errorf("picked endpoint %d, which is in none of the sets %d to %d", n, first, last)
							return
						}
						if tried = tried[:0]; rnd.IntN(4) == 0 {
							tried = append(tried, p.Node())
						}
						runtime.Gosched()
						p.Node().ReportLoad(time.Now(), Load{InFlight: 1 + rnd.IntN(4), Utilization: 0.5, Rate: 100})
						p.Done(Report{
							Now:     time.Now(),
							Outcome: []resilience.Outcome{resilience.Success, resilience.Failure, resilience.Overload, resilience.Neutral}[max(rnd.IntN(20)-16, 0)],
							Latency: time.Duration(1+rnd.IntN(10)) * time.Millisecond,
							Overdue: rnd.IntN(50) == 0,
						})
						picks.Add(1)
					}
				})
			}
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for i := 1; i <= updates; i++ {
				<-tick.C
				begun.Store(int64(i))
				b.Update(list[i : i+size])
				ended.Store(int64(i))
			}
			wg.Wait()
			if picks.Load() < updates {
				t.Errorf("%d picks during %d updates, want more than that", picks.Load(), updates)
			}
			for _, n := range b.Set().Nodes() {
				if got := n.InFlight(); got != 0 {
					t.Errorf("InFlight() at rest = %d, want 0", got)
				}
			}
		})
	}
}

func TestEveryAlgorithmPicksAndReportsWithoutAllocation(t *testing.T) {
	for _, a := range algorithms {
		b := New(Config{Builder: a.build, Outlier: &OutlierConfig{Consecutive: -1, FailureRatio: -1}, SlowStart: &SlowStart{}, Locality: Locality{Zone: "a"}})
		eps := endpoints(50, 1, 2)
		for i := range eps {
			eps[i].Zone = []string{"a", "b"}[i%2]
		}
		b.Update(eps)
		now := time.Now()
		for _, o := range []resilience.Outcome{resilience.Success, resilience.Failure, resilience.Neutral} {
			var tried [1]*Node
			if got := testing.AllocsPerRun(300, func() {
				now = now.Add(ms)
				first, _ := b.Pick(Info{Now: now, Hash: 5})
				tried[0] = first.Node()
				second, _ := b.Pick(Info{Now: now, Avoid: tried[:], Other: true, Sound: true})
				first.Node().ReportLoad(now, Load{InFlight: 2})
				first.Done(Report{Now: now, Outcome: o, Latency: 40 * ms})
				second.Done(Report{Now: now, Outcome: resilience.Success, Latency: 40 * ms})
			}); got >= 1 { // a plan is made now and then
				t.Errorf("%s: two picks, one of them %v, allocate %v times, want 0", a.name, o, got)
			}
		}
	}
}

// TestMillionEndpoints replaces all of a million endpoints, of which one in ten weighs more than the others.
func TestMillionEndpoints(t *testing.T) {
	million := 1_000_000
	if raced {
		million = 2_000
	}
	sets := [2][]discovery.Endpoint{}
	for k := range sets {
		for i := range million {
			sets[k] = append(sets[k], discovery.Endpoint{
				Addr: fmt.Sprintf("10.%d.%d.%d:%d", i>>16, i>>8&255, i&255, 80+k), Weight: []uint32{1, 0, 1, 1, 1, 1, 1, 1, 1, 1 << 31}[i%10],
			})
		}
	}
	for _, a := range algorithms {
		t.Run(a.name, func(t *testing.T) {
			n := million
			switch {
			case raced: // all happens in one goroutine
				n = 2_000
			case !slices.Contains([]string{"PeakEWMA", "RingHash", "Maglev"}, a.name):
				n = 50_000 // they do much the same
			}
			b := New(Config{Builder: a.build, Outlier: &OutlierConfig{}})
			before := heapInUse()
			for k := range sets {
				b.Update(sets[k][:n])
				nodes := b.Set().Nodes()
				if len(nodes) != n {
					t.Fatalf("%d nodes, want %d", len(nodes), n)
				}
				for i := range 100 {
					in := Info{Now: time.Now(), Hash: uint64(i), Avoid: nodes[:i]}
					p, err := b.Pick(in)
					if err != nil {
						t.Fatal(err)
					}
					p.Done(Report{Now: time.Now(), Outcome: resilience.Outcome(i % 4)})
				}
			}
			// 400 B for a node and its endpoint, and a table of an algorithm.
			if got := (heapInUse() - before) / int64(n); got > 800 && !raced {
				t.Errorf("%d B for each endpoint, want 800 at most", got)
			}
			runtime.KeepAlive(b)
		})
	}
}

// heapInUse returns how much is in use.
func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

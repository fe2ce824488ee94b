package loadbalance

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// sojourn returns the mean time that calls spend at n first-come-first-served nodes, in mean service times, with Poisson
// arrivals that take up the given part of the capacity and exponential service.
func sojourn(build Builder, n int, load float64, arrivals int) float64 {
	rnd := rand.New(rand.NewPCG(4, 2))
	b := New(Config{Builder: build, Rand: rnd.Uint64})
	b.Update(endpoints(n))
	free := map[*Node]time.Duration{} // when the node has served all it has
	var ends simEnds
	var now, total time.Duration
	warm := arrivals / 5
	for i := range arrivals {
		now += time.Duration(rnd.ExpFloat64() * float64(time.Second) / load / float64(n))
		for len(ends) > 0 && !ends[0].at.After(b.base.Add(now)) {
			end := heap.Pop(&ends).(simEnd)
			end.pick.Done(Report{Now: end.at, Outcome: resilience.Success})
		}
		at := b.base.Add(now)
		p, err := b.Pick(Info{Now: at})
		if err != nil {
			panic(err)
		}
		node := p.Node()
		free[node] = max(free[node], now) + time.Duration(rnd.ExpFloat64()*float64(time.Second))
		heap.Push(&ends, simEnd{at: b.base.Add(free[node]), pick: p})
		if i >= warm {
			total += free[node] - now
		}
	}
	return total.Seconds() / float64(arrivals-warm)
}

// The times are those of the supermarket model with one and two choices (M. Mitzenmacher, 2001): the sum over k of
// load^((d^k-d)/(d-1)), for infinitely many nodes. With 200, two choices are a little worse by chance and a little
// better for being distinct.
func TestLeastRequestQueuesAsTheSupermarketModelSays(t *testing.T) {
	for _, c := range []struct {
		name      string
		build     Builder
		load      float64
		want      float64
		tolerance float64
	}{
		{"Random", Random, 0.7, 3.33, 0.05},
		{"LeastRequest", LeastRequest, 0.7, 1.61, 0.03},
		{"LeastRequest", LeastRequest, 0.9, 2.61, 0.04},
		{"LeastRequest", LeastRequest, 0.95, 3.38, 0.06},
	} {
		got := sojourn(c.build, 200, c.load, 200_000)
		t.Logf("%s at %v: %.2f service times, model %.2f", c.name, c.load, got, c.want)
		if math.Abs(got/c.want-1) > c.tolerance {
			t.Errorf("%s at load %v: calls take %.3f service times, want %.2f within %.0f %%", c.name, c.load, got, c.want, c.tolerance*100)
		}
	}
}

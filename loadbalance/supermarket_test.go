package loadbalance

import (
	"container/heap"
	"fmt"
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

// The times are those of the supermarket model with one to three choices (M. Mitzenmacher, 2001): the sum over k of
// load^((d^k-d)/(d-1)), for infinitely many nodes. With 200, they are a little worse by chance and a little
// better for being distinct.
func TestLeastRequestQueuesAsTheSupermarketModelSays(t *testing.T) {
	for _, c := range []struct {
		name      string
		build     Builder
		load      float64
		want      float64
		arrivals  int
		tolerance float64
	}{
		{"Random", Random, 0.7, 3.33, 60_000, 0.02},
		{"LeastRequest", LeastRequest, 0.7, 1.61, 60_000, 0.02},
		{"LeastRequest", LeastRequest, 0.9, 2.61, 80_000, 0.02},
		{"LeastRequest", LeastRequest, 0.95, 3.38, 120_000, 0.02},
		{"three choices", LeastRequestConfig{Choices: 3}.LeastRequest, 0.7, 1.36, 60_000, 0.02},
		{"three choices", LeastRequestConfig{Choices: 3}.LeastRequest, 0.9, 2.03, 80_000, 0.02},
		{"three choices", LeastRequestConfig{Choices: 3}.LeastRequest, 0.95, 2.54, 120_000, 0.02},
	} {
		if raced && c.load > 0.7 {
			continue
		}
		t.Run(fmt.Sprintf("%s at %v", c.name, c.load), func(t *testing.T) {
			got := sojourn(c.build, 200, c.load, c.arrivals)
			t.Logf("%.2f service times, model %.2f", got, c.want)
			if math.Abs(got/c.want-1) > c.tolerance {
				t.Errorf("calls take %.3f service times, want %.2f within %.0f %%", got, c.want, c.tolerance*100)
			}
		})
	}
}

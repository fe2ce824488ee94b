package loadbalance

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// The short way to compare two nodes without penalties comes to what the long one does.
func TestSoonerIsLess(t *testing.T) {
	rnd := rand.New(rand.NewPCG(6, 1))
	ewmas, loads := twoChoices{costs: true}, twoChoices{}
	const now = time.Hour
	for range 20_000 {
		nodes := newNodes(2, 1+rnd.Uint32N(9), 1+rnd.Uint32N(9))
		for _, n := range nodes {
			n.inflight.Store(rnd.Int64N(10))
			if rnd.IntN(10) > 0 {
				n.cost.observe(now-time.Duration(rnd.Int64N(int64(time.Minute))), time.Duration(rnd.Int64N(int64(time.Second))))
			}
		}
		a, b := nodes[0], nodes[1]
		if got, want := loads.sooner(a, b), idler(a, b, now); got != want {
			t.Fatalf("by load: sooner = %t, want %t", got, want)
		}
		costA, knownA := a.cost.at(now)
		costB, knownB := b.cost.at(now)
		if knownA && knownB && near(a.expected(costA, a.inflight.Load(), now), b.expected(costB, b.inflight.Load(), now), 0.003) {
			continue // what is left of an average is exact to 0.1 %
		}
		if got, want := ewmas.sooner(a, b), cheaper(a, b, now); got != want {
			t.Fatalf("by cost: sooner = %t, want %t", got, want)
		}
	}
}

func TestDecayedGrowsBackwards(t *testing.T) {
	for age := int32(0); age <= maxAge; age += 1009 {
		if got := decayed(uint32(age)) * decayed(uint32(-age)); !near(got, 1, 0.002) {
			t.Fatalf("decayed(%d) * decayed(-%[1]d) = %v, want 1", age, got)
		}
	}
	for _, age := range []int32{math.MinInt32, -maxAge - 1, maxAge + 1, math.MaxInt32} {
		if got := decayed(uint32(age)); !(got > 0) || math.IsInf(got, 1) {
			t.Errorf("decayed(%d) = %v, want a finite number above 0", age, got)
		}
	}
}

// The busier node of two wins against itself in a quarter of the picks, a node of n that never answers in one of n*n.
func TestChoicesWithReplacementFallOnTheBusyNode(t *testing.T) {
	long(t)
	for _, n := range []int{2, 4, 10} {
		for _, c := range []struct {
			cfg  LeastRequestConfig
			want float64
		}{
			{LeastRequestConfig{}, 0},
			{LeastRequestConfig{Replacement: true}, 1 / float64(n*n)},
			{LeastRequestConfig{Replacement: true, Choices: 3}, 1 / float64(n*n*n)},
		} {
			b := New(Config{Builder: c.cfg.LeastRequest, Rand: seeded()})
			b.Update(endpoints(n))
			busy := b.Set().Nodes()[1]
			busy.inflight.Store(1000)
			const picks = 200_000
			got := float64(picked(t, b, b.base.Add(time.Second), picks)[busy.Addr()]) / picks
			if math.Abs(got-c.want) > 0.05*c.want+0.0005 {
				t.Errorf("share of the busy node of %d with %+v = %.4f, want %.4f", n, c.cfg, got, c.want)
			}
		}
	}
}

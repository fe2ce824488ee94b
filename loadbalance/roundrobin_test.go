package loadbalance

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"
)

func TestRoundRobinTakesTurns(t *testing.T) {
	for _, n := range []int{1, 2, 3, 100} {
		nodes := newNodes(n)
		p := WeightedRoundRobin(nodes)
		first := make([]*Node, n)
		seen := map[*Node]bool{}
		for i := range first {
			first[i] = p.Pick(Info{Now: time.Now()})
			seen[first[i]] = true
		}
		if len(seen) != n {
			t.Errorf("first round of %d nodes reached %d", n, len(seen))
		}
		for i := range 5 * n {
			if got := p.Pick(Info{Now: time.Now()}); got != first[i%n] {
				t.Fatalf("%d nodes: pick %d left the order of the first round", n, i)
			}
		}
	}
}

// Counts never stray from the shares by more than a few picks, and the gaps between two picks of a node stay
// below three times the mean.
func TestWeightedRoundRobinIsSmooth(t *testing.T) {
	const picks = 200_000
	for _, weights := range [][]uint32{{1, 2}, {5, 1, 1}, {1, 2, 3, 4, 5}, {100, 1}, {7, 7, 7, 6}, {1_000_000, 10_000, 1_000}} {
		nodes := newNodes(len(weights), weights...)
		p, share := WeightedRoundRobin(nodes), shares(nodes)
		at := map[*Node]int{}
		for i, n := range nodes {
			at[n] = i
		}
		counts, last := make([]int, len(nodes)), make([]int, len(nodes))
		for k := 1; k <= picks; k++ {
			i := at[p.Pick(Info{Now: time.Now()})]
			if gap := float64(k - last[i]); gap > 3/share[i]+1 {
				t.Fatalf("weights %v: node %d waited for %v picks, want <= %.0f", weights, i, gap, 3/share[i])
			}
			counts[i]++
			last[i] = k
			if off := math.Abs(float64(counts[i]) - float64(k)*share[i]); off > 6 {
				t.Fatalf("weights %v: node %d has %d of %d picks, %.1f off its share, want <= 6", weights, i, counts[i], k, off)
			}
		}
		for i, c := range counts {
			if want := picks * share[i]; math.Abs(float64(c)-want) > 6 {
				t.Errorf("weights %v: node %d got %d of %d picks, want %.0f within 6", weights, i, c, picks, want)
			}
		}
	}
}

func TestWeightsShareTheCircleExactly(t *testing.T) {
	for _, weights := range [][]uint32{{1, 2}, {math.MaxUint32, 1}, {1_000_000, 1, 1}} {
		nodes := newNodes(999, weights...)
		from := -1.0
		for i, end := range ends(nodes) {
			if got, want := (float64(end)-from)/(1<<64), shares(nodes)[i]; math.Abs(got-want) > 1e-12 {
				t.Fatalf("weights %v: part of node %d = %g, want %g", weights, i, got, want)
			}
			from = float64(end)
		}
		if from != math.MaxUint64 {
			t.Errorf("weights %v: the last part ends at %g", weights, from)
		}
	}
}

func TestRoundRobinStartsAtARandomPlace(t *testing.T) {
	nodes := newNodes(10)
	seen := map[*Node]bool{}
	for range 100 {
		seen[WeightedRoundRobin(nodes).Pick(Info{Now: time.Now()})] = true
	}
	if len(seen) < 8 {
		t.Errorf("100 pickers began with %d nodes of 10", len(seen))
	}
}

func TestWeightedRoundRobinFindsTheNode(t *testing.T) {
	for _, weights := range [][]uint32{{1, 2}, {1, 1_000_000}, {1_000_000, 1, 1, 1}, {math.MaxUint32, 1, 0}, {1, 3, 7, 1000}} {
		for _, n := range []int{2, 3, 4, 255, 256, 1000} {
			p := WeightedRoundRobin(newNodes(n, weights...)).(*roundRobin)
			words := append([]uint64{0, 1, math.MaxUint64, math.MaxUint64 - 1, 1 << 63}, randomWords(500)...)
			for _, end := range p.ends {
				words = append(words, end-1, end, end+1)
			}
			for _, x := range words {
				want, _ := slices.BinarySearch(p.ends, x)
				if got := p.at(x); got != want {
					t.Fatalf("%d nodes of weights %v: %#x belongs to node %d, want %d", n, weights, x, got, want)
				}
			}
		}
	}
}

func BenchmarkWeightedRoundRobin(b *testing.B) {
	for _, n := range []int{3, 100, 1000, 10_000} {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			p, in := WeightedRoundRobin(newNodes(n, 1, 2, 5)), Info{Now: time.Now()}
			b.ReportAllocs()
			for b.Loop() {
				p.Pick(in)
			}
		})
	}
}

package loadbalance

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// draw counts n picks by node, from a fixed seed.
func draw(nodes []*Node, p Picker, n int, avoid ...*Node) []int {
	rnd := rand.New(rand.NewPCG(3, 4))
	at := make(map[*Node]int, len(nodes))
	for i, node := range nodes {
		at[node] = i
	}
	counts := make([]int, len(nodes))
	in := Info{Now: time.Now(), Avoid: avoid}
	for range n {
		in.Random = rnd.Uint64()
		counts[at[p.Pick(in)]]++
	}
	return counts
}

// chiSquare returns the statistic in standard deviations above its mean: below 4 for all but one in 10,000
// draws from the right distribution.
func chiSquare(counts []int, share []float64) float64 {
	var n, chi float64
	for _, c := range counts {
		n += float64(c)
	}
	for i, c := range counts {
		d := float64(c) - n*share[i]
		chi += d * d / (n * share[i])
	}
	df := float64(len(counts) - 1)
	return (chi - df) / math.Sqrt(2*df)
}

func shares(nodes []*Node) []float64 {
	var sum float64
	list := make([]float64, len(nodes))
	for i, n := range nodes {
		list[i] = float64(weight(n))
		sum += list[i]
	}
	for i := range list {
		list[i] /= sum
	}
	return list
}

func newNodes(n int, weights ...uint32) []*Node {
	b := New(Config{Rand: rand.New(rand.NewPCG(5, 6)).Uint64})
	b.Update(endpoints(n, weights...))
	return b.Set().Nodes()
}

func TestPairIsDistinctAndUniform(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{2, 3, 7} {
		counts := make([]int, n*n)
		const draws = 100_000
		for range draws {
			i, j := pair(rnd.Uint64(), n)
			if i == j || i < 0 || j < 0 || i >= n || j >= n {
				t.Fatalf("pair of %d = %d, %d, want two distinct indices", n, i, j)
			}
			counts[i*n+j]++
		}
		var cells []int
		for k, c := range counts {
			if k/n != k%n {
				cells = append(cells, c)
			}
		}
		share := make([]float64, len(cells))
		for i := range share {
			share[i] = 1 / float64(len(cells))
		}
		if got := chiSquare(cells, share); got > 4 {
			t.Errorf("pairs of %d: chi-square %.1f deviations off, want <= 4", n, got)
		}
	}
	for _, r := range []uint64{0, 1, math.MaxUint64, 1 << 63} {
		if i, j := pair(r, 2); i == j {
			t.Errorf("pair(%#x, 2) = %d, %d, want distinct", r, i, j)
		}
	}
}

func TestRandomFollowsTheWeights(t *testing.T) {
	for _, weights := range [][]uint32{{1}, {0, 1, 2, 3}, {1, 1000}, {1_000_000, 999_999, 500_000}} {
		for _, n := range []int{4, 7, 100} {
			nodes := newNodes(n, weights...)
			if got := chiSquare(draw(nodes, Random(nodes), 200_000), shares(nodes)); got > 4 {
				t.Errorf("%d nodes of weights %v: chi-square %.1f deviations off, want <= 4", n, weights, got)
			}
		}
	}
}

func TestAliasTableIsExact(t *testing.T) {
	for _, weights := range [][]uint32{{1, 2, 3}, {1_000_000, 1}, {1, 1, 1_000_000, 7, 0}, {math.MaxUint32, 1}} {
		nodes := newNodes(1000, weights...)
		got := make([]float64, len(nodes))
		for i, c := range aliasTable(nodes) {
			own := float64(c.share) / (1 << 64)
			got[i] += own
			got[c.alias] += 1 - own
		}
		for i, want := range shares(nodes) {
			if got := got[i] / float64(len(nodes)); math.Abs(got-want) > 1e-12 {
				t.Fatalf("weights %v: share of node %d = %g, want %g", weights, i, got, want)
			}
		}
	}
}

// What unusable nodes lose goes to all others alike, not to the neighbour in the list.
func TestUnusableNodesAreReplacedEvenly(t *testing.T) {
	for _, p := range policies {
		nodes := newNodes(10)
		counts := draw(nodes, p.build(nodes), 50_000, nodes[2:6]...)
		for i, got := range counts {
			want := 50_000.0 / 6
			if i >= 2 && i < 6 {
				want = 0
			}
			if math.Abs(float64(got)-want) > 50_000.0/6*0.1 {
				t.Errorf("%s: node %d got %d of 50,000 picks, want %.0f within 10 %%", p.name, i, got, want)
			}
		}
	}
}

func TestTwoChoicesPrefersTheLesserLoad(t *testing.T) {
	for _, p := range policies[:2] {
		nodes := newNodes(2, 1, 4)
		pick := func() *Node { return p.build(nodes).Pick(Info{Now: time.Now(), Random: rand.Uint64()}) }
		if pick() != nodes[1] {
			t.Errorf("%s: idle nodes of weights 1 and 4: picked the light one", p.name)
		}
		nodes[1].inflight.Store(3)
		nodes[0].inflight.Store(1)
		if pick() != nodes[1] {
			t.Errorf("%s: 1 call on weight 1, 3 on weight 4: picked the light one", p.name)
		}
		nodes[1].inflight.Store(8)
		if pick() != nodes[0] {
			t.Errorf("%s: 1 call on weight 1, 8 on weight 4: picked the heavy one", p.name)
		}
	}
}

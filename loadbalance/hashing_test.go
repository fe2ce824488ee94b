package loadbalance

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var hashing = []struct {
	name  string
	build Builder
	// others is the part of all keys that move at most from one node that stays to another when a node leaves, and spread
	// how far shares stray from the weights at most with 10 nodes.
	others, spread float64
}{
	{"RingHash", RingHash, 0, 0.25},
	{"Maglev", Maglev, 0.007, 0.02},
	{"Rendezvous", Rendezvous, 0, 0.02},
}

// placed returns where each of so many keys goes.
func placed(p Picker, keys int) []*Node {
	rnd := rand.New(rand.NewPCG(8, 8))
	list := make([]*Node, keys)
	for k := range list {
		list[k] = p.Pick(Info{Now: time.Now(), Hash: rnd.Uint64(), Random: rand.Uint64()})
	}
	return list
}

func TestHashingKeepsAKeyOnItsNode(t *testing.T) {
	for _, h := range hashing {
		for _, weights := range [][]uint32{nil, {1, 2, 5}} {
			nodes := newNodes(30, weights...)
			want := placed(h.build(nodes), 2000)
			turned := slices.Clone(nodes)
			rand.Shuffle(len(turned), func(i, j int) { turned[i], turned[j] = turned[j], turned[i] })
			if got := placed(h.build(turned), 2000); !slices.Equal(got, want) {
				t.Errorf("%s: keys go elsewhere when the list is in another order", h.name)
			}
		}
	}
}

func TestHashingFollowsTheWeights(t *testing.T) {
	const keys = 200_000
	for _, h := range hashing {
		for _, weights := range [][]uint32{nil, {1, 2, 3, 4, 5}, {1000, 7000}} {
			nodes := newNodes(10, weights...)
			counts := map[*Node]int{}
			for _, n := range placed(h.build(nodes), keys) {
				counts[n]++
			}
			for i, share := range shares(nodes) {
				want := share * keys
				if off := math.Abs(float64(counts[nodes[i]])/want - 1); off > h.spread {
					t.Errorf("%s, weights %v: node %d has %.3f of its share of keys, want within %.2f", h.name, weights, i, 1+off, h.spread)
				}
			}
		}
	}
}

// When one of N nodes leaves, its keys move, a share of 1/N more or less, and few or none besides: in all at most
// 1.5/N, for Maglev up to the number of nodes that its table suffices for.
func TestHashingMovesFewKeysWhenANodeLeaves(t *testing.T) {
	long(t)
	const keys, rounds = 20_000, 3
	check := func(name string, build Builder, n int, others float64, weights ...uint32) {
		nodes := newNodes(n, weights...)
		before := placed(build(nodes), keys)
		var moved, apart int
		for round := range rounds {
			gone := nodes[round*n/rounds]
			left := slices.DeleteFunc(slices.Clone(nodes), func(n *Node) bool { return n == gone })
			for k, now := range placed(build(left), keys) {
				switch {
				case now == gone:
					t.Fatalf("%s: key is on the node that left", name)
				case now != before[k]:
					moved++
					if before[k] != gone {
						apart++
					}
				}
			}
		}
		part := float64(moved) / keys / rounds * float64(n)
		t.Logf("%s, %d nodes: %.2f/N of the keys moved, %.4f of other nodes", name, n, part, float64(apart)/keys/rounds)
		if part > 1.5 && others*float64(n) < 0.5 && weights == nil {
			t.Errorf("%s, %d nodes: %.2f/N of the keys moved, want <= 1.5/N", name, n, part)
		}
		if got := float64(apart) / keys / rounds; got > others {
			t.Errorf("%s, %d nodes: %.4f of the keys moved between other nodes, want <= %v", name, n, got, others)
		}
	}
	for _, h := range hashing {
		for _, n := range []int{3, 10, 64, 1000} {
			if raced && n > 64 {
				continue
			}
			check(h.name, h.build, n, h.others)
		}
	}
	check("Maglev with 655,373 places", HashConfig{Table: 655_373}.Maglev, 500, 0.003)
	check("RingHash with weights", RingHash, 50, 0, 5, 3, 700)
	check("Rendezvous with weights", Rendezvous, 50, 0, 5, 3, 700)
}

// However the keys are chosen, no node has more than 1.25 times the mean in flight, rounded up.
func TestHashingBoundsTheLoad(t *testing.T) {
	for _, h := range hashing {
		for _, c := range []struct {
			n       int
			weights []uint32
			factor  float64
		}{
			{3, nil, 1.25},
			{10, nil, 1.25},
			{100, nil, 1.25},
			{100, []uint32{1, 2, 5}, 1.25},
			{1000, nil, 1.25 * 1.15}, // the mean is an estimate
		} {
			if raced && c.n > 100 { // one goroutine that walks past full nodes: most of the time of the package
				continue
			}
			for _, keys := range []int{1, 2, 1 << 20} {
				nodes := newNodes(c.n, c.weights...)
				p, share := h.build(nodes), shares(nodes)
				rnd := rand.New(rand.NewPCG(1, 2))
				at := map[*Node]int{}
				for i, n := range nodes {
					at[n] = i
				}
				calls := min(20*c.n, 6000)
				for total := 1; total <= calls; total++ {
					n := p.Pick(Info{Now: time.Now(), Hash: mix(uint64(1 + rnd.IntN(keys))), Random: rnd.Uint64()})
					got := n.inflight.Add(1)
					if c.n <= sampled || total > 5*c.n {
						if want := math.Ceil(c.factor*float64(total)*share[at[n]] + 1e-4); float64(got) > want {
							t.Fatalf("%s, %d nodes of weights %v, %d keys: %d of %d calls in flight on one, want <= %v", h.name, c.n, c.weights, keys, got, total, want)
						}
					}
				}
			}
		}
	}
}

// A key leaves its node while that is at its bound, fails, was tried or is gone, always for the same other one, and comes
// back afterwards.
func TestHashingMovesAKeyForAWhile(t *testing.T) {
	for _, h := range hashing {
		nodes := newNodes(10)
		p := h.build(nodes)
		now := time.Now()
		base := now.Add(-nodes[0].since(now))
		in := Info{Now: now, Hash: HashKey("session")}
		home := p.Pick(in)
		second := p.Pick(Info{Now: in.Now, Hash: in.Hash, Avoid: []*Node{home}})
		away := func(why string) {
			t.Helper()
			for range 20 {
				in.Random = rand.Uint64()
				if got := p.Pick(in); got != second {
					t.Errorf("%s: %s: key went to %v, want %v", h.name, why, got.Addr(), second.Addr())
				}
			}
		}
		back := func(why string) {
			t.Helper()
			if got := p.Pick(in); got != home {
				t.Errorf("%s: after it %s: key went to %v, want %v", h.name, why, got.Addr(), home.Addr())
			}
		}
		home.inflight.Store(5)
		away("has all of the load")
		home.inflight.Store(0)
		back("had all of the load")

		for i := range 3 {
			at := time.Duration(i+1) * 10 * time.Millisecond
			home.penalty.fail(at, at, 0, 0)
		}
		in.Now = base.Add(50 * time.Millisecond)
		away("keeps failing")
		home.penalty.succeed(time.Second)
		back("failed")
		if unbound := (HashConfig{Bound: math.Inf(1)}); h.name == "Maglev" {
			home.inflight.Store(1 << 21)
			if got := unbound.Maglev(nodes).Pick(in); got != home {
				t.Errorf("without a bound the key went to %v, want %v", got.Addr(), home.Addr())
			}
		}
	}
}

func TestHashingWithoutAHashIsRandom(t *testing.T) {
	for _, h := range hashing[1:] { // those whose shares are even
		nodes := newNodes(10)
		counts := draw(nodes, h.build(nodes), 100_000)
		for i, got := range counts {
			if math.Abs(float64(got)/10_000-1) > 0.05 {
				t.Errorf("%s: node %d got %d of 100,000 picks without a hash, want 10,000 within 5 %%", h.name, i, got)
			}
		}
	}
}

// The ring is that of gRPC, which this follows step by step.
func TestRingIsThatOfGRPC(t *testing.T) {
	grpcRing := func(nodes []*Node, low, high float64) func(uint64) *Node {
		type item struct {
			hash uint64
			node *Node
		}
		sorted := slices.Clone(nodes)
		slices.SortFunc(sorted, func(a, b *Node) int { return strings.Compare(a.Addr(), b.Addr()) })
		var sum, least float64 = 0, 1
		for _, n := range sorted {
			sum += float64(weight(n))
		}
		for _, n := range sorted {
			least = min(least, float64(weight(n))/sum)
		}
		scale := min(math.Ceil(least*low)/least, high)
		var items []item
		var current, target float64
		for _, n := range sorted {
			target += scale * (float64(weight(n)) / sum)
			for i := 0; current < target; i++ {
				items = append(items, item{xxh64(n.Addr()+"_"+strconv.Itoa(i), 0), n})
				current++
			}
		}
		slices.SortFunc(items, func(a, b item) int {
			if a.hash < b.hash {
				return -1
			}
			return 1
		})
		return func(h uint64) *Node {
			for _, i := range items {
				if i.hash >= h {
					return i.node
				}
			}
			return items[0].node
		}
	}
	for _, c := range []struct {
		n       int
		weights []uint32
	}{{3, nil}, {10, []uint32{3, 3, 4}}, {100, nil}, {7, []uint32{1, 50}}} {
		nodes := newNodes(c.n, c.weights...)
		want := grpcRing(nodes, 1024, 4096)
		p := HashConfig{MinRing: 1024, MaxRing: 4096}.Ring(nodes)
		for _, key := range append([]uint64{1, math.MaxUint64, 1 << 63}, randomWords(2000)...) {
			if got := p.Pick(Info{Now: time.Now(), Hash: key}); got != want(key) {
				t.Fatalf("%d nodes of weights %v: hash %#x goes to %s, in gRPC to %s", c.n, c.weights, key, got.Addr(), want(key).Addr())
			}
		}
	}
}

func randomWords(n int) []uint64 {
	rnd := rand.New(rand.NewPCG(9, 9))
	list := make([]uint64, n)
	for i := range list {
		list[i] = rnd.Uint64()
	}
	return list
}

func TestRingIsBounded(t *testing.T) {
	for _, c := range []struct {
		n       int
		weights []uint32
		config  HashConfig
		most    int
	}{
		{2, []uint32{1, math.MaxUint32}, HashConfig{}, 513},
		{1000, []uint32{1, math.MaxUint32}, HashConfig{}, 129_000},
		{100_000, nil, HashConfig{}, 1 << 18},
		{2, []uint32{1, math.MaxUint32}, HashConfig{MinRing: 1024, MaxRing: 4096}, 4096},
		{2, []uint32{1, math.MaxUint32}, HashConfig{MaxRing: math.MaxInt}, maxPoints},
		{2, nil, HashConfig{MinRing: math.MaxInt, MaxRing: math.MaxInt}, maxPoints},
		{1000, nil, HashConfig{MinRing: 1, MaxRing: 1}, 1000},
		{10_000, []uint32{1, 1_000_000}, HashConfig{MinRing: 1}, maxPoints},
	} {
		nodes := newNodes(c.n, c.weights...)
		size := 0
		for i, count := range c.config.points(nodes) {
			if size += int(count); count == 0 && c.config == (HashConfig{}) {
				t.Errorf("%d nodes of weights %v: node %d has no points", c.n, c.weights, i)
			}
		}
		if size > c.most || size < min(c.n, c.most) {
			t.Errorf("%d nodes of weights %v, %+v: ring of %d points, want at most %d and one for each", c.n, c.weights, c.config, size, c.most)
		}
	}
}

func TestMaglevTableIsBounded(t *testing.T) {
	for _, c := range []struct{ table, n, want int }{
		{0, 1, 65_537}, {-1, 13_000, 65_537}, {0, 100_000, 500_009}, {0, 5_000_000, maxTable}, {1, 1, 5}, {2, 1000, 5003},
		{65_538, 1, 65_539}, {math.MaxInt, 1, maxTable}, {0, math.MaxInt, maxTable},
	} {
		if got := (HashConfig{Table: c.table}).tableSize(c.n); got != c.want {
			t.Errorf("Table %d, %d nodes: %d places, want %d", c.table, c.n, got, c.want)
		}
	}
}

func TestMaglevSharesAreExact(t *testing.T) {
	for _, weights := range [][]uint32{nil, {1, 2, 3}, {1, 1_000_000}, {math.MaxUint32, 1}} {
		nodes := newNodes(99, weights...)
		const size = 65_537
		counts := make([]int, len(nodes))
		for _, i := range maglevTable(nodes, size) {
			counts[i]++
		}
		for i, share := range shares(nodes) {
			if want := share * size; math.Abs(float64(counts[i])-want) > 1 {
				t.Errorf("weights %v: node %d holds %d places, want %.1f within 1", weights, i, counts[i], want)
			}
		}
	}
}

func BenchmarkHashing(b *testing.B) {
	for _, h := range hashing {
		for _, n := range []int{3, 100, 1000, 10_000} {
			for _, load := range []int64{0, 1} {
				b.Run(fmt.Sprintf("%s/n=%d/inflight=%d", h.name, n, load), func(b *testing.B) {
					nodes := newNodes(n)
					for _, node := range nodes {
						node.inflight.Store(load)
					}
					p, in := h.build(nodes), Info{Now: time.Now()}
					b.ReportAllocs()
					for b.Loop() {
						in.Random = next(in.Random)
						in.Hash = mix(in.Random)
						p.Pick(in)
					}
				})
			}
		}
	}
}

func BenchmarkHashingBuild(b *testing.B) {
	for _, h := range hashing {
		for _, n := range []int{100, 10_000} {
			b.Run(fmt.Sprintf("%s/n=%d", h.name, n), func(b *testing.B) {
				nodes := newNodes(n)
				b.ReportAllocs()
				for b.Loop() {
					h.build(nodes)
				}
			})
		}
	}
}

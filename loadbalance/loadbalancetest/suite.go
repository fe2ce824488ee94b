// Package loadbalancetest holds the rules that every loadbalance.Builder keeps, as a test.
package loadbalancetest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// Test runs the suite on a Builder: its pickers return a node of their own set whatever the weights and loads are, one
// that is neither tried nor rejected by its breaker nor, if so asked, failing while there is such a node; they spread calls
// over nodes that are alike, with a hash and without, allocate nothing, and are safe for concurrent use while the set
// changes.
func Test(t *testing.T, build loadbalance.Builder) {
	t.Run("one node", func(t *testing.T) {
		nodes := newNodes(build, 1)
		picker := build(nodes)
		for _, avoid := range [][]*loadbalance.Node{nil, nodes} {
			for _, r := range words(100) {
				expect(t, picker, loadbalance.Info{Random: r, Avoid: avoid}, nodes)
			}
		}
	})
	t.Run("tried nodes are avoided", func(t *testing.T) {
		for _, n := range []int{2, 3, 10, 100} {
			nodes := newNodes(build, n, 1, 5)
			picker := build(nodes)
			for left := 1; left < n; left = left*3 + 1 {
				for _, r := range words(200) {
					expect(t, picker, loadbalance.Info{Random: r, Avoid: nodes[left:]}, nodes[:left])
				}
			}
			for _, r := range words(200) {
				expect(t, picker, loadbalance.Info{Random: r, Avoid: nodes}, nodes)
			}
		}
	})
	t.Run("failing nodes are avoided where asked", func(t *testing.T) { testSound(t, build) })
	t.Run("busy nodes are picked rather than tried ones", func(t *testing.T) { testBusy(t, build) })
	t.Run("open breakers are avoided", func(t *testing.T) { testBreakers(t, build) })
	t.Run("any weights", func(t *testing.T) { testWeights(t, build) })
	t.Run("calls are spread", func(t *testing.T) { testSpread(t, build) })
	t.Run("no allocation", func(t *testing.T) {
		b := loadbalance.New(loadbalance.Config{Builder: build})
		b.Update(endpoints(50, 1, 2, 3))
		nodes := b.Set().Nodes()
		picker, rnd := build(nodes), rand.New(rand.NewPCG(7, 7))
		for _, busy := range []int{0, 3} {
			load(t, b, busy, nodes...)
			for _, avoid := range [][]*loadbalance.Node{nil, nodes[:1], nodes[:49], nodes} {
				in := loadbalance.Info{Now: time.Now(), Avoid: avoid}
				if got := testing.AllocsPerRun(500, func() {
					in.Random, in.Hash = rnd.Uint64(), rnd.Uint64()
					picker.Pick(in)
				}); got != 0 {
					t.Errorf("Pick with %d nodes tried and %d calls on each allocates %v times, want 0", len(avoid), busy, got)
				}
			}
		}
	})
	t.Run("picks while sets change", func(t *testing.T) { testSwaps(t, build) })
}

// testSound lets a call fail on each of the first nodes.
func testSound(t *testing.T, build loadbalance.Builder) {
	const n = 10
	for down := 1; down <= n; down += 3 {
		b := loadbalance.New(loadbalance.Config{Builder: build})
		b.Update(endpoints(n, 1, 3))
		nodes := b.Set().Nodes()
		picker, now := build(nodes), time.Now()
		want := nodes[down:]
		for _, node := range nodes[:down] {
			load(t, b, 1, node)[0].Done(loadbalance.Report{Now: now, Outcome: resilience.Failure})
		}
		if down == n {
			want = nodes
		}
		for _, r := range words(200) {
			in := loadbalance.Info{Now: now, Random: r, Sound: true}
			for _, in.Hash = range []uint64{0, r} {
				if got := picker.Pick(in); !slices.Contains(want, got) {
					t.Fatalf("%d of %d nodes fail: Pick(%#x) = %v, want one that does not", down, n, r, got)
				}
			}
		}
	}
}

// testBusy holds ever more calls on the one node that was not tried.
func testBusy(t *testing.T, build loadbalance.Builder) {
	for _, n := range []int{2, 10, 200} {
		b := loadbalance.New(loadbalance.Config{Builder: build})
		b.Update(endpoints(n, 1, 5))
		nodes := b.Set().Nodes()
		picker := build(nodes)
		for range 5 {
			for _, r := range words(50) {
				expect(t, picker, loadbalance.Info{Random: r, Avoid: nodes[1:]}, nodes[:1])
			}
			load(t, b, 20, nodes[0])
		}
	}
}

// testSpread checks that no node gets less than half of its share or more than one and a half. The shares of random draws
// are within a fifth, of 1,000 picks for each node.
func testSpread(t *testing.T, build loadbalance.Builder) {
	const picks = 1000
	for _, n := range []int{2, 3, 20} {
		for _, hashed := range []bool{false, true} {
			nodes := newNodes(build, n)
			picker, rnd := build(nodes), rand.New(rand.NewPCG(3, 1))
			counts := map[*loadbalance.Node]int{}
			for range n * picks {
				in := loadbalance.Info{Now: time.Now(), Random: rnd.Uint64()}
				if hashed {
					in.Hash = rnd.Uint64()
				}
				counts[picker.Pick(in)]++
			}
			for i, node := range nodes {
				if got := counts[node]; got < picks/2 || got > picks*3/2 {
					t.Errorf("node %d got %d of %d picks (hash %t), want %d to %d", i, got, n*picks, hashed, picks/2, picks*3/2)
				}
			}
		}
	}
}

// load makes so many calls on each of the nodes.
func load(t *testing.T, b *loadbalance.Balancer, calls int, nodes ...*loadbalance.Node) (picks []loadbalance.Pick) {
	t.Helper()
	for i := range nodes {
		only := b.View(nodes[i : i+1])
		for range calls {
			p, err := only.Pick(loadbalance.Info{Now: time.Now()})
			if err != nil {
				t.Fatalf("Pick() = %v", err)
			}
			picks = append(picks, p)
		}
	}
	return picks
}

func testBreakers(t *testing.T, build loadbalance.Builder) {
	const n = 10
	b := loadbalance.New(loadbalance.Config{
		Builder: build,
		Breaker: &resilience.BreakerConfig{Consecutive: 1, OpenFor: time.Hour},
	})
	b.Update(endpoints(n, 1, 3))
	nodes := b.Set().Nodes()
	picker := build(nodes)
	for down := range n {
		p, err := b.View(nodes[down : down+1]).Pick(loadbalance.Info{Now: time.Now()})
		if err != nil {
			t.Fatalf("Pick() of node %d = %v", down, err)
		}
		p.Done(loadbalance.Report{Now: time.Now(), Outcome: resilience.Failure})
		want := nodes[down+1:]
		if down == n-1 {
			want = nodes
		}
		for _, r := range words(200) {
			expect(t, picker, loadbalance.Info{Random: r}, want)
		}
		if len(want) > 1 && down < n-1 {
			for _, r := range words(200) {
				expect(t, picker, loadbalance.Info{Random: r, Avoid: want[1:]}, want[:1])
			}
		}
	}
}

func testWeights(t *testing.T, build loadbalance.Builder) {
	for _, c := range []struct {
		n       int
		weights []uint32
	}{
		{3, []uint32{0}},
		{3, []uint32{0, 0, 1}},
		{5, []uint32{1_000_000, 1, 1, 1, 1}},
		{1000, append([]uint32{1_000_000}, slices.Repeat([]uint32{1}, 999)...)},
		{10_000, []uint32{1_000_000}},
		{10_000, []uint32{1_000_000, 1}},
		{4, []uint32{math.MaxUint32}},
		{4, []uint32{math.MaxUint32, 0, 1, 1 << 31}},
		{2, []uint32{1 << 31}}, // a sum of 2^32
		{30_000, []uint32{math.MaxUint32, 1, 0}},
	} {
		nodes := newNodes(build, c.n, c.weights...)
		in := make(map[*loadbalance.Node]bool, len(nodes))
		for _, n := range nodes {
			in[n] = true
		}
		picker := build(nodes)
		for _, r := range words(1000) {
			if n := picker.Pick(loadbalance.Info{Now: time.Now(), Random: r, Hash: r & 3}); !in[n] {
				t.Fatalf("%d nodes of weights %v: Pick() = %v, want one of the set", c.n, c.weights[:min(len(c.weights), 4)], n)
			}
		}
	}
}

// testSwaps picks from many goroutines while the set moves on over a ring of addresses, and checks that
// each pick is of a set that was valid between its begin and its end.
func testSwaps(t *testing.T, build loadbalance.Builder) {
	const (
		updates = 300
		ring    = 16
		size    = 5
		pickers = 16
	)
	b := loadbalance.New(loadbalance.Config{Builder: build})
	all := endpoints(ring, 1, 2, 7)
	position := map[string]int64{}
	for i, ep := range all {
		position[ep.Addr] = int64(i)
	}
	sets := slices.Concat(all, all)
	b.Update(sets[:size])

	var begun, ended atomic.Int64 // updates; set i starts at place i of the ring
	var wg sync.WaitGroup
	var seen sync.Map
	for range pickers {
		wg.Go(func() {
			for ended.Load() < updates {
				first := ended.Load()
				p, err := b.Pick(loadbalance.Info{Now: time.Now(), Hash: uint64(first) & 1})
				last := begun.Load()
				if err != nil {
					t.Errorf("Pick() = %v", err)
					return
				}
				seen.Store(p.Node(), true)
				valid := false
				for i := first; i <= last && !valid; i++ {
					valid = (position[p.Node().Addr()]-i%ring+ring)%ring < size
				}
				if !valid {
					t.Errorf("picked %s, which is in none of the sets %d to %d", p.Node().Addr(), first, last)
					return
				}
				p.Done(loadbalance.Report{Now: time.Now(), Latency: time.Millisecond})
				runtime.Gosched() // on a single processor, the updates would wait for all pickers to be preempted
			}
		})
	}
	for i := 1; i <= updates; i++ {
		begun.Store(int64(i))
		at := i % ring
		b.Update(sets[at : at+size])
		ended.Store(int64(i))
		runtime.Gosched()
	}
	wg.Wait()
	seen.Range(func(n, _ any) bool {
		if got := n.(*loadbalance.Node).InFlight(); got != 0 {
			t.Errorf("InFlight() at rest = %d, want 0", got)
		}
		return true
	})
}

func expect(t *testing.T, p loadbalance.Picker, in loadbalance.Info, want []*loadbalance.Node) {
	t.Helper()
	in.Now = time.Now()
	for _, in.Hash = range []uint64{0, in.Random} {
		if n := p.Pick(in); n == nil || !slices.Contains(want, n) {
			t.Fatalf("Pick(%d nodes tried, random %#x, hash %#x) = %v, want one of %d nodes", len(in.Avoid), in.Random, in.Hash, n, len(want))
		}
	}
}

func newNodes(build loadbalance.Builder, n int, weights ...uint32) []*loadbalance.Node {
	b := loadbalance.New(loadbalance.Config{Builder: build})
	b.Update(endpoints(n, weights...))
	return b.Set().Nodes()
}

// endpoints returns n endpoints with the weights in turn, 1 if there are none.
func endpoints(n int, weights ...uint32) []discovery.Endpoint {
	eps := make([]discovery.Endpoint, n)
	for i := range eps {
		eps[i] = discovery.Endpoint{Addr: fmt.Sprintf("10.0.%d.%d:80", i/250, i%250), Weight: 1}
		if len(weights) > 0 {
			eps[i].Weight = weights[i%len(weights)]
		}
	}
	return eps
}

// words returns the extreme random words and n others from a fixed seed.
func words(n int) []uint64 {
	rnd := rand.New(rand.NewPCG(1, 2))
	w := []uint64{0, 1, 1<<63 - 1, 1 << 63, math.MaxUint64 - 1, math.MaxUint64}
	for range n {
		w = append(w, rnd.Uint64())
	}
	return w
}

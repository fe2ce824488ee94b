package loadbalance

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// reported gives the nodes loads of their own, requests in flight and milliseconds by turns.
func reported(now time.Time, loads ...int) []*Node {
	nodes := newNodes(len(loads) / 2)
	for i, n := range nodes {
		n.report()
		n.ReportLoad(now, Load{InFlight: loads[2*i], Latency: time.Duration(loads[2*i+1]) * time.Millisecond})
	}
	return nodes
}

func TestPrequalPrefersColdThenFast(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name     string
		quantile float64
		loads    []int
		want     int
	}{
		{"the fastest", 0, []int{5, 30, 5, 20, 5, 10, 5, 40}, 2},
		{"the fastest of the cold", 0, []int{9, 1, 5, 20, 5, 10, 4, 40}, 2},
		{"of eight, two are hot", 0, []int{9, 1, 8, 2, 7, 3, 6, 4, 5, 5, 4, 6, 3, 7, 2, 8}, 2},
		{"of two, the faster of equals", 0, []int{5, 30, 5, 20}, 1},
		{"half are hot", 0.5, []int{9, 1, 8, 2, 7, 3, 6, 4, 5, 5, 4, 6, 3, 7, 2, 8}, 4},
		{"all but one are hot", 0.1, []int{9, 1, 8, 2, 7, 3, 6, 4, 5, 5, 4, 6, 3, 7, 2, 8}, 7},
		{"requests in flight alone", -1, []int{9, 1, 3, 90, 7, 3}, 1},
		{"requests in flight alone", math.NaN(), []int{9, 1, 3, 90, 7, 3}, 1},
		{"latency alone", 1, []int{9, 1, 3, 90, 7, 3}, 0},
		{"latency alone", math.Inf(1), []int{9, 1, 3, 90, 7, 3}, 0},
	} {
		nodes := reported(now, c.loads...)
		p := PrequalConfig{Quantile: c.quantile}.Prequal(nodes)
		for _, r := range randomWords(50) {
			if got := p.Pick(Info{Now: now, Random: r}); got != nodes[c.want] {
				t.Fatalf("%s: %v picked %s, want %s", c.name, c.loads, got.Addr(), nodes[c.want].Addr())
			}
		}
	}
}

func TestPrequalWeighsRequestsInFlight(t *testing.T) {
	now := time.Now()
	nodes := newNodes(2, 1, 10)
	p := PrequalConfig{Quantile: -1}.Prequal(nodes)
	for _, n := range nodes {
		n.ReportLoad(now, Load{InFlight: 3, Latency: time.Millisecond})
	}
	if got := p.Pick(Info{Now: now}); got != nodes[1] {
		t.Errorf("3 in flight on weight 1 and on weight 10: picked the light one")
	}
	nodes[1].inflight.Add(30)
	if got := p.Pick(Info{Now: now}); got != nodes[0] {
		t.Errorf("3 in flight on weight 1 and 33 on weight 10: picked the heavy one")
	}
}

// What the endpoint says has in it what this client has in flight, and what the client adds counts from then on.
func TestPrequalAddsItsOwnRequests(t *testing.T) {
	now := time.Now()
	nodes := newNodes(2)
	p := PrequalConfig{Quantile: -1}.Prequal(nodes)
	nodes[0].inflight.Store(4)
	nodes[0].ReportLoad(now, Load{InFlight: 10})
	nodes[1].ReportLoad(now, Load{InFlight: 8})
	for _, c := range []struct{ inflight, want int64 }{{4, 1}, {3, 1}, {1, 0}, {0, 0}, {9, 1}} {
		nodes[0].inflight.Store(c.inflight)
		if got := p.Pick(Info{Now: now}); got != nodes[c.want] {
			t.Errorf("10 in flight with 4 of this client's, which now has %d, and 8: picked %s, want %s", c.inflight, got.Addr(), nodes[c.want].Addr())
		}
	}
}

func TestPrequalForgetsReports(t *testing.T) {
	now := time.Now()
	nodes := reported(now, 1, 1, 9, 90, 9, 80)
	p := Prequal(nodes)
	nodes[0].inflight.Store(1)
	if got := p.Pick(Info{Now: now.Add(990 * time.Millisecond)}); got != nodes[0] {
		t.Errorf("0.99 s after the reports: picked %s, want the best one", got.Addr())
	}
	later := now.Add(1100 * time.Millisecond)
	for _, n := range nodes[1:] {
		n.ReportLoad(later, Load{InFlight: 9, Latency: 50 * time.Millisecond})
	}
	for _, r := range randomWords(50) {
		if got := p.Pick(Info{Now: later, Random: r}); got == nodes[0] {
			t.Error("picked the node whose report is 1.1 s old and whose answer is awaited")
		}
	}
	nodes[0].inflight.Store(0)
	silent := false
	for _, r := range randomWords(50) {
		silent = silent || p.Pick(Info{Now: later, Random: r}) == nodes[0]
	}
	if !silent {
		t.Error("no pick asks the idle node whose report is too old")
	}
}

func TestPrequalWithoutReportsIsPeakEWMA(t *testing.T) {
	nodes := newNodes(50)
	now := time.Now()
	for i, n := range nodes {
		n.cost.observe(n.since(now), time.Duration(i+1)*time.Millisecond)
	}
	got, want := Prequal(nodes), PeakEWMA(nodes)
	for _, r := range randomWords(1000) {
		if in := (Info{Now: now, Random: r}); got.Pick(in) != want.Pick(in) {
			t.Fatalf("Pick(%#x) = %s, PeakEWMA picks %s", r, got.Pick(in).Addr(), want.Pick(in).Addr())
		}
	}
}

func TestPrequalAvoidsWhatFailed(t *testing.T) {
	now := time.Now()
	nodes := reported(now, 1, 1, 9, 90, 9, 80)
	p := PrequalConfig{MaxAge: time.Hour}.Prequal(nodes)
	since := nodes[0].since(now)
	for i := range 3 {
		at := since + time.Duration(i+1)*10*time.Millisecond
		nodes[0].penalty.fail(at, at, 0, 0)
		in := Info{Now: now.Add(time.Duration(i+1)*10*time.Millisecond + 1)}
		for _, in.Random = range randomWords(50) {
			if got := p.Pick(in); got == nodes[0] {
				t.Fatalf("picked the node that failed %d times just now", i+1)
			}
		}
	}
}

func TestReportLoadToleratesAnything(t *testing.T) {
	now := time.Now()
	newNodes(1)[0].ReportLoad(now, Load{InFlight: 1}) // which nobody asked for
	for _, l := range []Load{{}, {InFlight: -1}, {InFlight: math.MinInt}, {Latency: time.Second}} {
		nodes := newNodes(2)
		Prequal(nodes)
		nodes[0].ReportLoad(now, l)
		if nodes[0].said.Load() != 0 {
			t.Errorf("ReportLoad(%+v) counts, want it ignored", l)
		}
	}
	for _, l := range []Load{
		{InFlight: math.MaxInt, Latency: math.MaxInt64}, {InFlight: 1, Latency: math.MinInt64}, {InFlight: 1, Latency: 1},
	} {
		nodes := reported(now, 2, 10, 2, 10, 2, 10)
		nodes[0].ReportLoad(now, l)
		nodes[0].inflight.Add(5)
		for _, quantile := range []float64{-1, 0.5, 1} {
			p := PrequalConfig{Quantile: quantile, Pool: math.MaxInt, MaxAge: math.MaxInt64}.Prequal(nodes)
			for _, r := range randomWords(50) {
				if got := p.Pick(Info{Now: now, Random: r}); got == nil {
					t.Fatalf("after ReportLoad(%+v) Pick() = nil", l)
				}
			}
		}
	}
}

// The ramp of section 5.1 of the paper: weighted round robin breaks as soon as the load is more than what is granted to
// the servers, since on some machines that is all there is, while Prequal finds out which have more to give.
func TestPrequalStandsLoadsThatBreakRoundRobin(t *testing.T) {
	long(t)
	t.Parallel()
	const size, cost = 100, 0.12 // 100 clients and 100 servers
	t.Run("WeightedRoundRobin", func(t *testing.T) {
		f := newFarm(WeightedRoundRobin, size, cost)
		f.run(0.75, 4*time.Second)
		t.Logf("load 0.75: p50 %v, p99.9 %v, %d errors", f.quantile(0.5), f.quantile(0.999), f.errors)
		if f.errors > 0 {
			t.Errorf("%d errors at a load of 0.75, want none: the set-up is too hard", f.errors)
		}
		f.run(1.03, 40*time.Second)
		t.Logf("load 1.03: p50 %v, p99.9 %v, %d errors", f.quantile(0.5), f.quantile(0.999), f.errors)
		if got := f.quantile(0.999); got < farmDeadline {
			t.Errorf("p99.9 at a load of 1.03 = %v, want the deadline, %v: the set-up is too easy", got, farmDeadline)
		}
	})
	t.Run("Prequal", func(t *testing.T) {
		f := newFarm(Prequal, size, cost)
		for _, load := range []float64{0.75, 0.83, 0.93, 1.03, 1.14, 1.27, 1.41, 1.57, 1.74} {
			f.run(load, 4*time.Second)
			t.Logf("load %.2f: p50 %v, p99.9 %v, %d errors", load, f.quantile(0.5), f.quantile(0.999), f.errors)
			if got := f.quantile(0.999); f.errors > 0 || got > farmDeadline/2 {
				t.Errorf("at a load of %.2f: %d errors, p99.9 %v, want none, <= %v", load, f.errors, got, farmDeadline/2)
			}
		}
	})
}

func TestPrequalLeavesAFailingNode(t *testing.T) {
	const n = 10
	rnd := rand.New(rand.NewPCG(1, 3))
	b := New(Config{Builder: Prequal, Rand: rnd.Uint64})
	b.Update(endpoints(n))
	now := time.Now()
	bad, failed := b.Set().Nodes()[0], 0
	for range 20_000 {
		now = now.Add(time.Millisecond)
		p, err := b.Pick(Info{Now: now})
		if err != nil {
			t.Fatal(err)
		}
		if p.Node() == bad {
			failed++
			p.Done(Report{Now: now, Outcome: resilience.Failure, Latency: time.Millisecond})
			continue
		}
		p.Node().ReportLoad(now, Load{InFlight: 1 + rnd.IntN(9), Latency: 50 * time.Millisecond})
		p.Done(Report{Now: now, Outcome: resilience.Success, Latency: 50 * time.Millisecond})
	}
	if failed > 20 {
		t.Errorf("%d of 20,000 calls went to the node that fails fast, want <= 20", failed)
	}
}

// One node of ten answers in 50 ms like the others and says that it is idle and takes no time. A client with 100 calls in
// flight must not send it more than what it can see to be its share.
func TestPrequalSeesThroughLies(t *testing.T) {
	for _, lie := range []Load{
		{InFlight: 1, Latency: 1},
		{InFlight: 1, Latency: time.Millisecond},
		{Latency: 1},
		{InFlight: math.MaxInt, Latency: 1},
	} {
		rnd := rand.New(rand.NewPCG(1, 2))
		b := New(Config{Builder: Prequal, Rand: rnd.Uint64})
		b.Update(endpoints(10))
		liar := b.Set().Nodes()[3]
		now := time.Now()
		var flying []Pick
		lied := 0
		const calls, latency, inflight = 5000, 50 * time.Millisecond, 100
		for range calls {
			now = now.Add(latency / inflight)
			if len(flying) == inflight {
				p := flying[0]
				flying = flying[1:]
				l := Load{InFlight: p.Node().InFlight(), Latency: latency}
				if p.Node() == liar {
					l = lie
				}
				p.Node().ReportLoad(now, l)
				p.Done(Report{Now: now, Outcome: resilience.Success, Latency: latency})
			}
			p, err := b.Pick(Info{Now: now})
			if err != nil {
				t.Fatal(err)
			}
			if p.Node() == liar {
				lied++
			}
			flying = append(flying, p)
		}
		if got := float64(lied) / calls; got > 0.2 {
			t.Errorf("a node that reports %+v has a share of %.3f, want <= 0.2", lie, got)
		}
	}
}

func BenchmarkPrequal(b *testing.B) {
	for _, pool := range []int{8, 16} {
		for _, n := range []int{3, 100, 1000, 10_000} {
			b.Run(fmt.Sprintf("pool=%d/n=%d", pool, n), func(b *testing.B) {
				nodes := newNodes(n)
				p := PrequalConfig{Pool: pool, MaxAge: time.Hour}.Prequal(nodes)
				rnd, in := rand.New(rand.NewPCG(1, 1)), Info{Now: time.Now()}
				for _, node := range nodes {
					node.ReportLoad(in.Now, Load{InFlight: 1 + rnd.IntN(20), Latency: time.Duration(rnd.IntN(1e8))})
				}
				b.ReportAllocs()
				for b.Loop() {
					in.Random = next(in.Random)
					pick(p, &in)
				}
			})
		}
	}
}

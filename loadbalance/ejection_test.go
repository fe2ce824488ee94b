package loadbalance

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
)

func seeded() func() uint64 { return rand.New(rand.NewPCG(5, 5)).Uint64 }

// testbed is a Balancer whose attempts on given nodes end at once.
type testbed struct {
	*testing.T
	*Balancer
	now time.Time
}

func newTestbed(t *testing.T, n int, cfg OutlierConfig) *testbed {
	b := New(Config{Builder: Random, Outlier: &cfg, Rand: seeded()})
	b.Update(endpoints(n))
	return &testbed{t, b, b.base.Add(time.Second)}
}

func (b *testbed) node(i int) *Node { return b.Set().Nodes()[i] }

// end makes attempts on a node that is in service and ends them with the outcome.
func (b *testbed) end(n *Node, times int, r Report) {
	for range times {
		b.now = b.now.Add(time.Millisecond)
		p := begin(n, &Info{Now: b.now}, resilience.Permit{})
		r.Now = b.now
		p.Done(r)
	}
}

func (b *testbed) good(n *Node, times int) {
	b.end(n, times, Report{Outcome: resilience.Success, Latency: ms})
}
func (b *testbed) fail(n *Node, times int) {
	b.end(n, times, Report{Outcome: resilience.Failure, Latency: ms})
}

func (b *testbed) ejected() (list []int) {
	for i, n := range b.Set().Nodes() {
		if n.Ejected() {
			list = append(list, i)
		}
	}
	return list
}

func (b *testbed) want(when string, nodes ...int) {
	b.Helper()
	if got := b.ejected(); !slices.Equal(got, nodes) {
		b.Errorf("%s: ejected nodes = %v, want %v", when, got, nodes)
	}
}

// pick picks once and leaves the attempt open.
func (b *testbed) pick() Pick {
	b.Helper()
	p, err := b.Pick(Info{Now: b.now})
	if err != nil {
		b.Fatal(err)
	}
	return p
}

func TestFailuresInARowEject(t *testing.T) {
	b := newTestbed(t, 4, OutlierConfig{FailureRatio: -1})
	n := b.node(2)
	b.fail(n, 4)
	b.good(n, 1)
	b.fail(n, 4)
	b.want("after four failures, a success, and four failures")
	b.end(n, 100, Report{Outcome: resilience.Overload, After: time.Second})
	b.end(n, 100, Report{Outcome: resilience.Neutral})
	b.want("after overload and calls that were given up")
	b.fail(n, 1)
	b.want("after five failures", 2)
	if n.Available(b.now) {
		t.Error("an ejected node is available")
	}
	for range 200 {
		if p := b.pick(); p.Node() == n {
			t.Fatal("an ejected node was picked")
		}
	}
	hung := b.node(0)
	b.end(hung, 5, Report{Outcome: resilience.Neutral, Latency: time.Second, Overdue: true})
	b.want("after five attempts that others overtook", 0, 2)

	b = newTestbed(t, 4, OutlierConfig{Consecutive: -1, FailureRatio: -1})
	b.fail(b.node(0), 1000)
	b.want("with everything switched off")
}

// Attempts that hang together are one sign that the node may hang, and an answer, be it a refusal, that it does not.
func TestSilencesInARowEject(t *testing.T) {
	overdue := Report{Outcome: resilience.Neutral, Latency: 50 * ms, Overdue: true}
	b := newTestbed(t, 4, OutlierConfig{})
	together := func(n *Node, times int) {
		b.now = b.now.Add(ms)
		var picks []Pick
		for range times {
			picks = append(picks, begin(n, &Info{Now: b.now}, resilience.Permit{}))
		}
		for _, p := range picks {
			b.now = b.now.Add(ms)
			r := overdue
			r.Now = b.now
			p.Done(r)
		}
	}
	n := b.node(1)
	b.good(n, 50)
	for range 4 {
		together(n, 50)
	}
	b.want("after four times fifty attempts that hung together")
	b.end(n, 1, Report{Outcome: resilience.Overload})
	for range 4 {
		together(n, 50)
	}
	b.want("after a refusal and four times more")
	together(n, 1)
	b.want("after the fifth time", 1)

	n = b.node(0)
	b.good(n, 50)
	b.fail(n, 3)
	b.end(n, 1, overdue)
	b.end(n, 1, Report{Outcome: resilience.Overload})
	b.fail(n, 1)
	b.want("after three failures, a silence that was none, and one more failure", 1)
	b.end(n, 1, overdue)
	b.want("after four failures and a silence", 0, 1)
}

func TestShareOfFailuresEjects(t *testing.T) {
	b := newTestbed(t, 4, OutlierConfig{Consecutive: -1, MinResponses: 20})
	for i := range 4 {
		b.good(b.node(i), 80)
	}
	n := b.node(1)
	b.fail(n, 20)
	b.want("at 20 %")
	b.fail(n, 1)
	b.want("above 20 %", 1)

	b = newTestbed(t, 4, OutlierConfig{Consecutive: -1, MinResponses: 20})
	n = b.node(1)
	b.fail(n, 10)
	b.now = b.now.Add(10 * time.Second)
	b.good(b.node(0), 100)
	b.good(n, 18)
	b.fail(n, 2)
	b.want("when older failures have left the window")
	b.fail(b.node(3), 19)
	b.want("with 19 responses")
	b.fail(b.node(3), 1)
	b.want("with 20 responses", 3)
}

func TestServiceThatFailsEverywhereKeepsItsNodes(t *testing.T) {
	b := newTestbed(t, 10, OutlierConfig{})
	rnd := rand.New(rand.NewPCG(1, 1))
	most := 0
	for i := range 100_000 {
		n := b.node(rnd.IntN(10))
		if n.Ejected() {
			continue
		}
		if rnd.IntN(10) < 3 {
			b.fail(n, 1)
		} else {
			b.good(n, 1)
		}
		if i > 5000 { // once it is known how the siblings do
			most = max(most, len(b.ejected()))
		}
		for _, k := range b.ejected() { // let probes pass
			b.setup.Load().outliers.prove(b.node(k), b.since(b.now)+1, b.since(b.now)+2, good, true)
		}
	}
	if most > 1 {
		t.Errorf("%d of 10 nodes were ejected at a time where all fail in 30 %% of calls, want <= 1", most)
	}
}

// With k of n equally bad hosts the deviation of one is sqrt((n-k)/k) standard deviations: 2 for 2 of 10, 1.53 for 3.
func TestDeviationsFindFewOfMany(t *testing.T) {
	for _, c := range []struct{ n, bad, want int }{
		{10, 1, 1}, {10, 2, 2}, {10, 3, 0}, {20, 4, 4}, {20, 5, 0}, {4, 1, 0}, {5, 1, 1},
	} {
		b := newTestbed(t, c.n, OutlierConfig{Consecutive: -1, FailureRatio: -1, Deviations: 1.9})
		fail := func(n *Node) {
			if !n.Ejected() {
				b.fail(n, 1)
			}
		}
		for i := range c.n {
			b.good(b.node(i), 100)
			if i < c.bad {
				for range 100 {
					fail(b.node(i))
				}
			}
		}
		b.now = b.now.Add(2 * time.Second)
		b.good(b.node(c.n-1), 1) // compares
		for i := range c.bad {
			fail(b.node(i))
		}
		if got := len(b.ejected()); got != c.want {
			t.Errorf("%d of %d bad: ejected %d, want %d", c.bad, c.n, got, c.want)
		}
	}
}

func TestLatencyAgainstSiblingsEjects(t *testing.T) {
	b := newTestbed(t, 5, OutlierConfig{Latency: 3})
	answer := func(i, times int, d time.Duration) {
		b.end(b.node(i), times, Report{Outcome: resilience.Success, Latency: d})
	}
	for i := range 5 {
		answer(i, 20, 10*ms)
	}
	b.now = b.now.Add(2 * time.Second)
	answer(0, 1, 10*ms) // compares
	answer(1, 1, 200*ms)
	b.want("after one slow response")
	answer(2, 30, 25*ms)
	b.want("at 2.5 times the median")
	for range 30 {
		if !b.node(3).Ejected() {
			answer(3, 1, 40*ms)
		}
	}
	b.want("at four times the median", 3)
}

func TestOneAttemptProbesAnEjectedNode(t *testing.T) {
	b := newTestbed(t, 3, OutlierConfig{Jitter: -1})
	n := b.node(1)
	eject := func() {
		b.fail(n, 5)
		b.want("after five failures", 1)
	}
	// probes returns the attempts on the node among so many.
	probes := func() (list []Pick) {
		for range 100 {
			if p := b.pick(); p.Node() == n {
				list = append(list, p)
			} else {
				p.Done(Report{Now: b.now})
			}
		}
		return list
	}
	one := func(when string) Pick {
		t.Helper()
		list := probes()
		if len(list) != 1 {
			t.Fatalf("probes %s = %d, want 1", when, len(list))
		}
		return list[0]
	}
	none := func(when string) {
		t.Helper()
		if got := len(probes()); got != 0 {
			t.Fatalf("probes %s = %d, want none", when, got)
		}
	}
	eject()
	b.now = b.now.Add(999 * ms)
	none("before the ejection is over")
	b.now = b.now.Add(ms)
	if p, err := b.Pick(Info{Now: b.now, Avoid: []*Node{b.node(0)}}); err != nil || p.Node() != b.node(2) {
		t.Errorf("a repeated call probes: Pick() = %v, %v", p.Node(), err)
	}
	probe := one("after a second")
	b.now = b.now.Add(999 * ms)
	none("during the probe")
	b.now = b.now.Add(ms)
	second := one("after the first hung as long as the ejection took")
	b.now = b.now.Add(10 * ms)
	second.Done(Report{Now: b.now, Outcome: resilience.Failure})
	probe.Done(Report{Now: b.now, Outcome: resilience.Success}) // too late: it began before the ejection that counts
	b.want("after the probe failed", 1)
	b.now = b.now.Add(1999 * ms)
	none("before the second ejection is over")
	b.now = b.now.Add(ms)
	one("after two seconds").Done(Report{Now: b.now, Outcome: resilience.Neutral})
	again := one("after one that was called off")
	again.Done(Report{Now: b.now.Add(ms), Outcome: resilience.Overload})
	b.want("after a probe that was refused for overload")
	eject()
	b.now = b.now.Add(4 * time.Second)
	one("after four seconds").Done(Report{Now: b.now.Add(ms), Outcome: resilience.Success})
	b.want("after the probe succeeded")
	b.now = b.now.Add(time.Second)
	if got := len(probes()); got < 20 {
		t.Errorf("picks of the node that returned = %d of 100, want a third", got)
	}
	b.now = b.now.Add(31 * time.Second) // three quiet windows
	eject()
	b.now = b.now.Add(time.Second)
	one("after a second, since it was well for so long")
}

func TestEjectionsStopAtTheCeilingAndAtTheLastNode(t *testing.T) {
	for _, c := range []struct {
		n, want int
		cfg     OutlierConfig
	}{
		{1, 0, OutlierConfig{MaxEjected: 1}},
		{2, 1, OutlierConfig{}},
		{3, 1, OutlierConfig{}},
		{3, 2, OutlierConfig{MaxEjected: 0.67}},
		{10, 5, OutlierConfig{}},
		{10, 9, OutlierConfig{MaxEjected: 1}},
		{10, 0, OutlierConfig{MaxEjected: 0.05}},
		{10, 1, OutlierConfig{MaxEjected: 0.05, One: true}},
	} {
		b := newTestbed(t, c.n, c.cfg)
		for i := range c.n {
			b.fail(b.node(i), 5)
		}
		if got := len(b.ejected()); got != c.want {
			t.Errorf("%d failing nodes with %+v: ejected %d, want %d", c.n, c.cfg, got, c.want)
		}
		if got := b.Set().Panicking(); got != (2*c.want > c.n) {
			t.Errorf("%d of %d ejected: Panicking() = %v", c.want, c.n, got)
		}
		if !b.Set().Panicking() {
			continue
		}
		seen := map[*Node]bool{}
		for range 1000 {
			seen[b.pick().Node()] = true
		}
		if len(seen) != c.n {
			t.Errorf("picks in a panic reach %d of %d nodes", len(seen), c.n)
		}
		for range 50 { // all are well again
			b.now = b.now.Add(ms)
			p := b.pick()
			p.Done(Report{Now: b.now.Add(ms), Outcome: resilience.Success})
		}
		if b.Set().Panicking() {
			t.Error("the panic does not end")
		}
	}
}

// Whatever fails, recovers, comes and goes, and in whatever order.
func TestCeilingHoldsInAnyOrder(t *testing.T) {
	seeds := uint64(300)
	if raced {
		seeds = 30 // each is judged by itself
	}
	for seed := range seeds {
		rnd := rand.New(rand.NewPCG(seed, 7))
		n := 1 + rnd.IntN(40)
		b := newTestbed(t, n, OutlierConfig{MaxEjected: float64(rnd.IntN(11)) / 10, One: rnd.IntN(2) == 0, Consecutive: 1 + rnd.IntN(3)})
		most := 0
		for range 400 {
			switch k := rnd.IntN(20); {
			case k == 0:
				n = 1 + rnd.IntN(40)
				eps := endpoints(n)
				for i := range eps {
					eps[i].Health = discovery.Health(max(0, rnd.IntN(8)-5))
				}
				b.Update(eps)
			case k < 4:
				b.now = b.now.Add(time.Duration(rnd.IntN(3000)) * ms)
				p := b.pick()
				p.Done(Report{Now: b.now, Outcome: []resilience.Outcome{resilience.Success, resilience.Failure}[rnd.IntN(2)]})
			case k < 6:
				b.good(b.node(rnd.IntN(n)), 1)
			default:
				b.fail(b.node(rnd.IntN(n)), 1+rnd.IntN(3))
			}
			checkOutliers(t, b.Balancer)
			most = max(most, len(b.ejected()))
			b.pick().Done(Report{Now: b.now, Outcome: resilience.Neutral}) // always finds a node
		}
		if t.Failed() {
			t.Fatalf("seed %d, %+v", seed, b.setup.Load().cfg.Outlier)
		}
		if b.setup.Load().outliers.cfg().MaxEjected >= 0.5 && most == 0 {
			t.Fatalf("seed %d: nothing was ever ejected", seed)
		}
	}
}

func TestSmallerSetGetsItsNodesBack(t *testing.T) {
	b := newTestbed(t, 10, OutlierConfig{})
	for i := range 5 {
		b.fail(b.node(i), 5)
	}
	b.want("of ten", 0, 1, 2, 3, 4)
	b.Update(endpoints(6))
	if got := len(b.ejected()); got != 3 || b.setup.Load().outliers.out != 3 {
		t.Errorf("ejected of six = %d, counted %d, want 3", got, b.setup.Load().outliers.out)
	}
	b.Update(endpoints(1))
	if got := len(b.ejected()); got != 0 || b.setup.Load().outliers.out != 0 {
		t.Errorf("ejected of one = %d, counted %d, want 0", got, b.setup.Load().outliers.out)
	}
}

func TestEjectionSpillsToTheNextLevel(t *testing.T) {
	b := newTestbed(t, 0, OutlierConfig{})
	eps := endpoints(20)
	for i := 10; i < 20; i++ {
		eps[i].Priority = 1
	}
	b.Update(eps)
	for _, c := range []struct {
		down int
		want float64
	}{{0, 1}, {2, 1}, {5, 0.7}, {10, 0}} {
		for i := range c.down {
			if n := b.node(i); !n.Ejected() {
				b.fail(n, 5)
			}
		}
		first := 0
		const picks = 5000
		for range picks {
			if b.pick().Node().Endpoint().Priority == 0 {
				first++
			}
		}
		if got := float64(first) / picks; !near(got, c.want, 0.05) {
			t.Errorf("share of the first level with %d of 10 ejected = %.3f, want %.2f", c.down, got, c.want)
		}
	}
}

// The views of transports see ejections that come after they were made.
func TestViewsFollowEjections(t *testing.T) {
	b := newTestbed(t, 4, OutlierConfig{Jitter: -1})
	view := b.View(b.Set().Nodes()[:2])
	b.fail(b.node(0), 5)
	for range 100 {
		if p, err := view.Pick(Info{Now: b.now}); err != nil || p.Node() != b.node(1) {
			t.Fatalf("Pick() = %v, %v, want the node in service", p.Node(), err)
		}
	}
	only := b.View(b.Set().Nodes()[:1])
	if p, err := only.Pick(Info{Now: b.now}); err != nil || p.Node() != b.node(0) || !only.Panicking() {
		t.Errorf("Pick() of a view of the ejected node = %v, %v", p.Node(), err)
	}
	b.now = b.now.Add(time.Second)
	p, err := view.Pick(Info{Now: b.now})
	if err != nil || p.Node() != b.node(0) {
		t.Fatalf("Pick() after the ejection = %v, %v, want a probe", p.Node(), err)
	}
	p.Done(Report{Now: b.now, Outcome: resilience.Success})
	b.want("after the probe")
}

// Whatever the algorithm, and with one client as with ten.
func TestEjectedNodeGetsNoTraffic(t *testing.T) {
	for _, p := range policies {
		for _, clients := range []int{1, 10} {
			if raced && clients > 1 {
				continue
			}
			for _, b := range []struct {
				name   string
				do     behaviour
				within time.Duration
				want   float64
			}{
				{"failing", failFast, 0, 0.01},
				// Every other probe finds it well, and four calls a second of each of ten clients must find out that it is not.
				{"failing half of its calls", failing(0.5), 3 * time.Second, 0.03},
			} {
				t.Run(fmt.Sprintf("%s/%d clients/%s", p.name, clients, b.name), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						var got, all int
						for range clients { // they share nothing
							s := simulateWith(Config{Builder: p.build, Outlier: &OutlierConfig{}, SlowStart: &SlowStart{}}, 10, between(5*time.Second, forever, b.do), healthy)
							s.run(400/float64(clients), 65*time.Second)
							k, n := s.count("n0", 5*time.Second+b.within, 65*time.Second)
							got, all = got+k, all+n
						}
						share := float64(got) / float64(all)
						t.Logf("share in the minute = %.4f", share)
						if share > b.want {
							t.Errorf("share = %.4f, want <= %.2f", share, b.want)
						}
					})
				})
			}
		}
	}
}

// Servers that refuse what their queues have no room for, without a word of a pause, do not fail: to eject some would leave
// the burst to the others.
func TestEjectionDoesNotWorsenBursts(t *testing.T) {
	for _, clients := range []int{1, 10} {
		failed := func(outlier *OutlierConfig) (failed, ejected int) {
			c := newTown(Config{Outlier: outlier}, 8, clients, zoned(4), "a")
			c.queue, c.rate, c.deadline = 12, 100, 5*time.Second
			c.run(t, 2*time.Second)
			for i := range 20 {
				for k := range 200 { // 80 at most are taken at once
					c.call(t, c.callers[k%clients])
				}
				failed += c.run(t, c.now+time.Duration(500+i)*ms).failed
				for _, b := range c.callers {
					for _, n := range b.Set().Nodes() {
						if n.Ejected() {
							ejected++
						}
					}
				}
			}
			return failed, ejected
		}
		without, _ := failed(nil)
		with, ejected := failed(&OutlierConfig{})
		t.Logf("%d clients: %d of 5000 calls fail without ejection, %d with it, %d ejections seen", clients, without, with, ejected)
		if without < 1000 {
			t.Errorf("%d clients: %d calls fail without ejection: the trial is too easy", clients, without)
		}
		if with > without+without/20 {
			t.Errorf("%d clients: %d calls fail with ejection, %d without it", clients, with, without)
		}
	}
}

func TestHungNodeCostsFewCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for client := range 10 {
			s := simulateWith(Config{Outlier: &OutlierConfig{}}, 10, between(10*time.Second, forever, hung), healthy)
			s.overdue = true
			for range client * 7 {
				s.rnd.Uint64()
			}
			s.run(40, 40*time.Second)
			first, _ := s.count("n0", 10*time.Second, 12*time.Second)
			later, _ := s.count("n0", 12*time.Second, 40*time.Second)
			t.Logf("client %d: %d picks in the first 2 s, %d in the 28 s after", client, first, later)
			if first > 2 {
				t.Errorf("client %d: picks of the hung node in the first 2 s = %d, want <= 2", client, first)
			}
			if later > 6 {
				t.Errorf("client %d: picks of the hung node in the 28 s after = %d, want <= 6", client, later)
			}
		}
	})
}

func TestServiceRecoversFromATotalFailure(t *testing.T) {
	long(t)
	const down, up = 5 * time.Second, 40 * time.Second
	for _, p := range policies {
		for _, c := range []struct {
			n   int
			cfg OutlierConfig
		}{{2, OutlierConfig{}}, {3, OutlierConfig{}}, {10, OutlierConfig{}}, {10, OutlierConfig{MaxEjected: 1}}} {
			t.Run(fmt.Sprintf("%s/%d/%v", p.name, c.n, c.cfg.MaxEjected), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					cfg := Config{Builder: p.build, Outlier: &c.cfg, SlowStart: &SlowStart{}}
					s := simulateWith(cfg, c.n, between(down, up, failFast))
					s.run(200, up-time.Second)
					panicking := s.bal.Set().Panicking()
					s.run(200, up+2*time.Second)
					for _, n := range s.bal.Set().Nodes() {
						if now := time.Now(); n.Ejected() || n.Penalized(now) || n.young.Load() != 0 {
							t.Errorf("%s 2 s after all healed: ejected %v, penalized %v, slowed %v", n.Addr(), n.Ejected(), n.Penalized(now), n.young.Load() != 0)
						}
					}
					s.run(200, up+7*time.Second)
					for addr := range s.nodes {
						// An algorithm that compares costs gives the dearest of ten nodes that never failed as little as 0.27
						// of its part in 5 s (the least of 600), and no node of a pair may win more than twice its part.
						got := s.share(addr, up+2*time.Second, up+7*time.Second)
						if got < 0.2/float64(c.n) || got > 2/float64(c.n) {
							t.Errorf("share of %s from 2 s after all healed = %.3f of %.3f", addr, got, 1/float64(c.n))
						}
					}
					t.Logf("panicking while all fail: %v", panicking)
				})
			})
		}
	}
}

func TestEjectionsAreSafeForConcurrentUse(t *testing.T) {
	b := New(Config{
		Outlier:   &OutlierConfig{Consecutive: 2, Deviations: 1.9, Latency: 2, MinVolume: 5, Ejection: ms, MaxEjection: 2 * ms},
		SlowStart: &SlowStart{Window: 5 * ms},
		Locality:  Locality{Zone: "a", Low: 0.1, High: 0.2},
	})
	b.Update(zoned(6, 6))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(rand.Uint64(), 1))
			for range 3000 {
				p, err := b.Pick(Info{Now: time.Now()})
				if err != nil {
					t.Error(err)
					return
				}
				p.Done(Report{Now: time.Now(), Outcome: resilience.Outcome(r.IntN(4)), Latency: time.Duration(r.IntN(5)) * ms, Overdue: r.IntN(2) == 0})
			}
		})
	}
	for i := range 300 {
		b.Update(zoned(6-i%4, 6-i%3))
	}
	wg.Wait()
	checkOutliers(t, b)
	for _, n := range b.Set().Nodes() {
		if got := n.InFlight(); got != 0 {
			t.Errorf("InFlight() = %d, want 0", got)
		}
	}
}

// checkOutliers checks what must hold whenever nothing is going on.
func checkOutliers(t *testing.T, b *Balancer) {
	t.Helper()
	d := b.setup.Load().outliers
	out, healthy := 0, b.Set().healthy()
	for _, n := range b.Set().Nodes() {
		if n.gone() {
			t.Errorf("%s is in the set and gone", n.Addr())
		}
		if n.Ejected() {
			out++
		}
		if n.FailsChecks() && n.Endpoint().Health == discovery.Healthy {
			healthy--
		}
	}
	if out != d.out {
		t.Errorf("counts %d ejected nodes, want %d", d.out, out)
	}
	if out > 0 && !d.cfg().mayEject(out-1, healthy) {
		t.Errorf("%d of %d nodes are ejected", out, healthy)
	}
}

func FuzzOutliers(f *testing.F) {
	f.Add([]byte("\x00\x05abcdefghijklmnopqrstuvwxyz"))
	f.Add([]byte{9, 3, 0x31, 0x31, 0x31, 0x31, 0x31, 0x31, 0x31, 0x31, 0x72, 0x31, 0x03, 0x31, 0x31, 0xf0, 0x31})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 2 || len(data) > 2000 {
			return
		}
		build := policies[int(data[0])%len(policies)].build
		b := New(Config{
			Builder: build, Rand: seeded(),
			Outlier: &OutlierConfig{
				Consecutive: int(data[0]>>4) - 1, Deviations: 1, MinHosts: 3, MinVolume: 5, Latency: 2,
				MaxEjected: float64(data[1]&15) / 10, One: data[1]&16 > 0, Jitter: float64(data[1]>>5) / 4,
			},
			SlowStart: &SlowStart{},
			Locality:  Locality{Zone: []string{"", "a"}[data[1]>>4&1], Low: 0.1, High: 0.2},
		})
		now := b.base
		var open []Pick
		for _, c := range data[2:] {
			arg := int(c >> 3)
			switch c & 7 {
			case 0:
				eps := endpoints(arg, 1, 0, 1<<31)
				for i := range eps {
					eps[i].Health = discovery.Health(i * arg % 5)
					eps[i].Priority = uint8(i % 3)
					eps[i].Zone = []string{"", "a", "b"}[i/2%3]
				}
				b.Update(eps)
				checkOutliers(t, b)
			case 1:
				b.Update(endpoints(arg))
				checkOutliers(t, b)
			case 2:
				now = now.Add(time.Duration(arg*arg) * 100 * ms)
			case 3, 4:
				set := b.Set()
				in := Info{Now: now}
				if arg&1 > 0 && len(set.Nodes()) > 0 {
					in.Avoid = set.Nodes()[:1]
				}
				in.Sound = arg&2 > 0
				p, err := b.Pick(in)
				if (err != nil) != (len(set.Nodes()) == 0) {
					t.Fatalf("Pick() of %d nodes = %v", len(set.Nodes()), err)
				}
				if err == nil && (p.Node().gone() || !slices.Contains(set.Nodes(), p.Node())) {
					t.Fatalf("picked %s, which was removed", p.Node().Addr())
				}
				open = append(open, p)
			default:
				if len(open) > 0 {
					k := arg % len(open)
					now = now.Add(time.Duration(arg))
					open[k].Done(Report{Now: now, Outcome: resilience.Outcome(c % 5), Latency: time.Duration(arg) * ms, Overdue: arg&4 > 0})
					open = slices.Delete(open, k, k+1)
				}
			}
		}
		checkOutliers(t, b)
	})
}

// Envoy, gRPC and Linkerd do not ask how the siblings fare, nor do they cut ejections short where many fail.
func TestAbsoluteThresholdsHoldWhateverTheSiblingsDo(t *testing.T) {
	for _, absolute := range []bool{false, true} {
		b := newTestbed(t, 10, OutlierConfig{
			Absolute: absolute, FailureRatio: -1, MaxEjected: 0.1, Linear: true, Jitter: -1, Ejection: 30 * time.Second, MaxEjection: 300 * time.Second,
		})
		for range 5 { // half of the calls of most nodes fail
			for i := range 8 {
				b.fail(b.node(i), 1)
				b.good(b.node(i), 1)
			}
			b.now = b.now.Add(2 * time.Second)
		}
		b.fail(b.node(0), 5)
		if !absolute {
			b.want("a run that may be chance")
			continue
		}
		b.want("five failures in a row", 0)
		b.fail(b.node(1), 5)
		b.want("five failures of another one, above the ceiling", 0)
		for _, lasts := range []time.Duration{30, 60, 90} {
			if got := time.Duration(b.node(0).out.Load()) - b.since(b.now); got > lasts*time.Second || got < (lasts-1)*time.Second {
				t.Errorf("ejection lasts %v, want %v", got, lasts*time.Second)
			}
			b.now = b.now.Add(lasts * time.Second)
			p, ok := Pick{}, false
			for range 100 { // one of them is the probe
				if p = b.pick(); p.trace.probe() {
					ok = true
					break
				}
				p.Done(Report{Now: b.now, Outcome: resilience.Success, Latency: ms})
			}
			if !ok {
				t.Fatal("an ejection that is over is not probed")
			}
			p.Done(Report{Now: b.now, Outcome: resilience.Failure})
		}
	}
}

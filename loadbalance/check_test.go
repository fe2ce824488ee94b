package loadbalance

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
)

// allPolicies are those of bench_test.go and those that hash.
var allPolicies = map[string]Builder{
	"PeakEWMA": PeakEWMA, "LeastRequest": LeastRequest, "Random": Random, "WeightedRoundRobin": WeightedRoundRobin,
	"Prequal": Prequal, "UtilizationRoundRobin": UtilizationRoundRobin, "RingHash": RingHash, "Maglev": Maglev, "Rendezvous": Rendezvous,
}

// picked returns how many of so many picks each address got.
func picked(t *testing.T, b *Balancer, now time.Time, picks int) map[string]int {
	t.Helper()
	by := map[string]int{}
	for range picks {
		p, err := b.Pick(Info{Now: now})
		if err != nil {
			t.Fatal(err)
		}
		by[p.Node().Addr()]++
		p.Done(Report{Now: now, Outcome: resilience.Neutral})
	}
	return by
}

func TestNodeThatFailsItsChecksGetsNoAttempts(t *testing.T) {
	for name, build := range allPolicies {
		b := New(Config{Builder: build, Rand: seeded()})
		b.Update(endpoints(6))
		now, bad := b.base.Add(time.Second), b.Set().Nodes()[2]
		b.SetFailing(bad.Addr(), true, now)
		b.SetFailing("192.0.2.1:80", true, now) // is not in the set
		by := picked(t, b, now, 3000)
		if got := by[bad.Addr()]; got != 0 || len(by) != 5 {
			t.Errorf("%s: attempts on the node that fails = %d, on others %v, want none on it and some on each other", name, got, by)
		}
		if !bad.FailsChecks() || bad.Available(now) || bad.Ejected() || b.Set().Panicking() {
			t.Errorf("%s: FailsChecks, Available, Ejected, Panicking = %v, %v, %v, %v, want true and false", name,
				bad.FailsChecks(), bad.Available(now), bad.Ejected(), b.Set().Panicking())
		}
		b.SetFailing(bad.Addr(), false, now)
		if got := picked(t, b, now, 3000)[bad.Addr()]; got == 0 || bad.FailsChecks() || !bad.Available(now) {
			t.Errorf("%s: attempts on the node that is back = %d, want some", name, got)
		}
	}
}

// Otherwise the check of everything could take a service away that works.
func TestFailedChecksDoNotCountWhenMostFail(t *testing.T) {
	for _, c := range []struct {
		nodes, failing int
		panics         bool
	}{
		{1, 1, true}, {2, 1, false}, {2, 2, true}, {3, 1, false}, {3, 2, true}, {10, 5, false}, {10, 6, true}, {10, 10, true},
	} {
		for _, outlier := range []*OutlierConfig{nil, {}} {
			b := New(Config{Builder: Random, Outlier: outlier, Rand: seeded()})
			b.Update(endpoints(c.nodes))
			now := b.base.Add(time.Second)
			for _, n := range b.Set().Nodes()[:c.failing] {
				b.SetFailing(n.Addr(), true, now)
			}
			want := c.nodes - c.failing
			if c.panics {
				want = c.nodes
			}
			if got := len(picked(t, b, now, 1000)); got != want || b.Set().Panicking() != c.panics {
				t.Errorf("with %d of %d failing: picked nodes, Panicking = %d, %v, want %d, %v", c.failing, c.nodes, got, b.Set().Panicking(), want, c.panics)
			}
		}
	}
}

func TestFailedChecksSendCallsToTheNextPriority(t *testing.T) {
	for _, c := range []struct {
		failing int // of 10 in the first level
		want    float64
	}{
		{0, 1}, {2, 1}, {5, 0.7}, {8, 0.28}, {10, 0},
	} {
		eps := endpoints(20)
		for i := range eps[10:] {
			eps[10+i].Priority = 1
		}
		b := New(Config{Builder: Random, Rand: seeded()})
		b.Update(eps)
		now := b.base.Add(time.Second)
		for _, ep := range eps[:c.failing] {
			b.SetFailing(ep.Addr, true, now)
		}
		by, first := picked(t, b, now, 20_000), 0
		for _, ep := range eps[:10] {
			first += by[ep.Addr]
		}
		if got := float64(first) / 20_000; math.Abs(got-c.want) > 0.02 {
			t.Errorf("share of the first level with %d of 10 failing = %.3f, want %.2f", c.failing, got, c.want)
		}
	}
}

func TestFailedCheckTakesTheZoneForSmaller(t *testing.T) {
	eps := endpoints(20)
	for i := range eps {
		eps[i].Zone = []string{"a", "b"}[i/10]
	}
	b := New(Config{Builder: Random, Locality: Locality{Zone: "a"}, Rand: seeded()})
	b.Update(eps)
	now := b.base.Add(time.Second)
	for _, ep := range eps[:5] {
		b.SetFailing(ep.Addr, true, now)
	}
	by, near := picked(t, b, now, 20_000), 0
	for _, ep := range eps[:10] {
		near += by[ep.Addr]
	}
	if got := float64(near) / 20_000; math.Abs(got-0.7) > 0.02 {
		t.Errorf("share of the zone with half of it failing = %.3f, want 0.70", got)
	}
}

func TestFailedCheckTakesThePlaceOfAnEjection(t *testing.T) {
	b := newTestbed(t, 6, OutlierConfig{FailureRatio: -1})
	n := b.node(0)
	b.fail(n, 5)
	b.want("after five failures", 0)
	b.now = b.now.Add(time.Minute)
	probe := b.pick()
	if probe.Node() != n || !probe.trace.probe() {
		t.Fatalf("Pick() after the ejection = %v, want a probe of %s", probe.Node().Addr(), n.Addr())
	}
	b.SetFailing(n.Addr(), true, b.now)
	b.want("while it fails its checks")
	probe.Done(Report{Now: b.now.Add(ms), Outcome: resilience.Success, Latency: ms})
	if !n.FailsChecks() {
		t.Error("a call returned a node to service whose checks fail")
	}
	b.now = b.now.Add(time.Hour)
	if got := picked(t, b.Balancer, b.now, 1000)[n.Addr()]; got != 0 {
		t.Errorf("attempts on a node that fails its checks = %d, want no probe", got)
	}
	b.SetFailing(n.Addr(), false, b.now)
	b.want("when its checks pass again")
	b.fail(n, 4)
	b.want("after four failures: those from before do not count")
	b.SetFailing(n.Addr(), true, b.now)
	b.SetFailing(n.Addr(), false, b.now)
	b.fail(n, 4)
	b.want("after four more: those from before do not count either")
	b.fail(n, 1)
	b.want("after five failures", 0)
	checkOutliers(t, b.Balancer)
}

func TestCallsInPanicDoNotOverruleChecks(t *testing.T) {
	b := newTestbed(t, 3, OutlierConfig{})
	for i := range 3 {
		b.SetFailing(b.node(i).Addr(), true, b.now)
	}
	b.good(b.node(0), 10)
	b.fail(b.node(1), 10)
	for i := range 3 {
		if !b.node(i).FailsChecks() {
			t.Errorf("calls returned node %d to service, want that left to its checks", i)
		}
	}
	checkOutliers(t, b.Balancer)
}

func TestEjectionsAreCountedAmongThoseThatPassTheirChecks(t *testing.T) {
	b := newTestbed(t, 6, OutlierConfig{FailureRatio: -1})
	b.fail(b.node(0), 5)
	b.fail(b.node(1), 5)
	b.want("two of six", 0, 1)
	for i := 2; i < 5; i++ {
		b.SetFailing(b.node(i).Addr(), true, b.now)
	}
	if got := len(b.ejected()); got != 1 {
		t.Errorf("ejected nodes when three of six fail their checks = %d, want 1 of the other three", got)
	}
	b.SetFailing(b.node(5).Addr(), true, b.now)
	b.fail(b.node(0), 5)
	b.fail(b.node(1), 5)
	if got := len(b.ejected()); got > 1 {
		t.Errorf("ejected nodes when four of six fail their checks = %d, want one left", got)
	}
	checkOutliers(t, b.Balancer)
}

func TestEndEjection(t *testing.T) {
	b := newTestbed(t, 4, OutlierConfig{FailureRatio: -1})
	n := b.node(1)
	b.fail(n, 5)
	b.EndEjection(b.node(2).Addr(), b.now)
	b.EndEjection("192.0.2.1:80", b.now)
	b.want("after five failures", 1)
	b.EndEjection(n.Addr(), b.now)
	b.want("after its end")
	b.fail(n, 4)
	b.want("after four failures: those from before do not count")
	b.SetFailing(n.Addr(), true, b.now)
	b.EndEjection(n.Addr(), b.now)
	if !n.FailsChecks() {
		t.Error("EndEjection returned a node to service whose checks fail")
	}
}

func TestNodeComesBackAsItLeft(t *testing.T) {
	b := New(Config{Builder: Random, Rand: seeded()})
	eps := endpoints(4)
	b.Update(eps)
	b.SetFailing(eps[0].Addr, true, time.Now())
	b.Update(eps[1:])
	b.Update(eps)
	if !b.Set().Nodes()[0].FailsChecks() {
		t.Error("a node that was away for a moment passes its checks, want them failing until one passes")
	}
}

func TestUnprovenNodesWaitForTheirFirstCheck(t *testing.T) {
	b := New(Config{Builder: Random, Unproven: true, SlowStart: &SlowStart{}, Rand: seeded()})
	eps := endpoints(4)
	b.Update(eps[:3])
	now := time.Now()
	if got := len(picked(t, b, now, 1000)); got != 3 {
		t.Errorf("picked nodes while none is proven = %d, want 3", got)
	}
	for _, ep := range eps[:3] {
		b.SetFailing(ep.Addr, false, now)
	}
	b.Update(eps)
	if got := picked(t, b, now, 1000)[eps[3].Addr]; got != 0 {
		t.Errorf("attempts on a new node = %d, want none before it is proven", got)
	}
	b.SetFailing(eps[3].Addr, false, now)
	if got := b.Set().Nodes()[3].part(b.since(now)); got != 0.1 {
		t.Errorf("part of a new node when it is proven = %v, want 0.1", got)
	}
	if got := b.Set().Nodes()[0].part(b.since(now)); got != 1 {
		t.Errorf("part of a node that got attempts before it was proven = %v, want 1", got)
	}
}

func TestChecksRaceWithEverything(t *testing.T) {
	b := New(Config{Outlier: &OutlierConfig{Ejection: time.Millisecond}, SlowStart: &SlowStart{}, Breaker: &resilience.BreakerConfig{}})
	eps := endpoints(8)
	b.Update(eps)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 3000 {
				p, err := b.Pick(Info{Now: time.Now()})
				if err != nil {
					continue // the breakers are open
				}
				r := Report{Now: time.Now(), Outcome: resilience.Success, Latency: ms}
				if i%3 == 0 || p.Node().Addr() == eps[1].Addr {
					r.Outcome = resilience.Failure
				}
				p.Done(r)
			}
		})
	}
	wg.Go(func() {
		for i := range 3000 {
			b.SetFailing(eps[i%8].Addr, i%3 != 0, time.Now())
			b.EndEjection(eps[(i+1)%8].Addr, time.Now())
		}
	})
	wg.Go(func() {
		for i := range 300 {
			b.Update(eps[i%4:])
		}
	})
	wg.Wait()
	b.Update(eps)
	checkOutliers(t, b)
	for _, ep := range eps {
		b.SetFailing(ep.Addr, false, time.Now())
	}
	checkOutliers(t, b)
	for _, n := range b.Set().Nodes() {
		if n.InFlight() != 0 || n.FailsChecks() {
			t.Errorf("%s: InFlight, FailsChecks = %d, %v, want 0, false", n.Addr(), n.InFlight(), n.FailsChecks())
		}
	}
}

func ExampleBalancer_SetFailing() {
	b := New(Config{})
	b.Update([]discovery.Endpoint{{Addr: "10.0.0.1:80"}, {Addr: "10.0.0.2:80"}})
	b.SetFailing("10.0.0.1:80", true, time.Now())
	used := map[string]bool{}
	for range 100 {
		pick, _ := b.Pick(Info{Now: time.Now()})
		used[pick.Node().Addr()] = true
		pick.Done(Report{Now: time.Now(), Outcome: resilience.Success})
	}
	fmt.Println(slices.Collect(maps.Keys(used)))
	// Output: [10.0.0.2:80]
}

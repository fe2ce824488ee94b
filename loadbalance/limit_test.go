package loadbalance

import (
	"errors"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/zerohop/zerohop/resilience"
)

func TestLimitConfigNamesEveryMistake(t *testing.T) {
	if err := (LimitConfig{Max: -1, Min: -2}).Validate(); err == nil || err.Error() != "max: must be between 0 and 1000000, got -1\nmin: must be between 0 and 1000000, got -2" {
		t.Errorf("Validate() = %v", err)
	}
	if err := (LimitConfig{Max: 2, Min: 3, Adaptive: true}).Validate(); err == nil || err.Error() != "min: must not be more than max (2), got 3" {
		t.Errorf("Validate() = %v", err)
	}
	if err := (LimitConfig{Min: 3, Adaptive: true}).Validate(); err != nil {
		t.Errorf("Validate() = %v, want nil", err)
	}
}

// Whatever the algorithm, no node gets more than it may have, all get as much, and then picks fail at once.
func TestPickAvoidsNodesAtTheirLimit(t *testing.T) {
	for name, build := range allPolicies {
		b := New(Config{Builder: build, Limit: &LimitConfig{Max: 5}, SlowStart: &SlowStart{}, Rand: seeded()})
		b.Update(endpoints(8))
		now := b.base.Add(time.Second)
		var picks []Pick
		for range 40 {
			p, err := b.Pick(Info{Now: now, Hash: 7})
			if err != nil {
				t.Fatalf("%s: Pick() after %d = %v", name, len(picks), err)
			}
			picks = append(picks, p)
		}
		for _, n := range b.Set().Nodes() {
			if n.InFlight() != 5 || !n.Available(now) {
				t.Errorf("%s: InFlight, Available = %d, %v, want 5, true", name, n.InFlight(), n.Available(now))
			}
		}
		if _, err := b.Pick(Info{Now: now}); !errors.Is(err, ErrLimited) || !errors.Is(err, resilience.ErrLimited) {
			t.Errorf("%s: Pick() = %v, want ErrLimited", name, err)
		}
		picks[17].Done(Report{Now: now})
		if p, err := b.Pick(Info{Now: now}); err != nil || p.Node() != picks[17].Node() {
			t.Errorf("%s: Pick() = %v, %v, want the node that has room", name, p.Node(), err)
		}
	}
}

// Calls go on to another zone and another priority rather than fail.
func TestPickLeavesZoneAndPriorityAtTheirLimit(t *testing.T) {
	eps := endpoints(3)
	eps[0].Zone, eps[1].Zone, eps[2].Zone, eps[2].Priority = "a", "b", "b", 1
	b := New(Config{Limit: &LimitConfig{Max: 2}, Locality: Locality{Zone: "a", Low: 0.8, High: 2}, Rand: seeded()})
	b.Update(eps)
	now := b.base.Add(time.Second)
	got := map[string]int{}
	for range 6 {
		p, err := b.Pick(Info{Now: now})
		if err != nil {
			t.Fatal(err)
		}
		got[p.Node().Addr()]++
	}
	for _, ep := range eps {
		if got[ep.Addr] != 2 {
			t.Errorf("%d attempts on %s, want 2", got[ep.Addr], ep.Addr)
		}
	}
}

func TestBoundCallFailsAtTheLimitOfItsNode(t *testing.T) {
	b := New(Config{Limit: &LimitConfig{Max: 1}, Rand: seeded()})
	b.Update(endpoints(2))
	now, n := b.base.Add(time.Second), b.Set().Nodes()[0]
	bound := Info{Now: now, Node: NodeKey(n.Addr()), Strict: true}
	if p, err := b.Pick(bound); err != nil || p.Node() != n {
		t.Fatalf("Pick() = %v, %v", p.Node(), err)
	}
	if _, err := b.Pick(bound); !errors.Is(err, ErrLimited) {
		t.Errorf("Pick() = %v, want ErrLimited", err)
	}
	bound.Strict = false
	if p, err := b.Pick(bound); err != nil || p.Node() == n {
		t.Errorf("Pick() = %v, %v, want the other node", p.Node(), err)
	}
}

// A place that the breaker then refuses is given back, and open breakers are not taken for limits.
func TestBreakerAndLimitTogether(t *testing.T) {
	b := New(Config{Limit: &LimitConfig{Max: 1}, Breaker: &resilience.BreakerConfig{Consecutive: 1, OpenFor: time.Hour}, Rand: seeded()})
	b.Update(endpoints(2))
	now := time.Now()
	for range 2 {
		p, err := b.Pick(Info{Now: now})
		if err != nil {
			t.Fatal(err)
		}
		p.Done(Report{Now: now, Outcome: resilience.Failure})
	}
	if _, err := b.Pick(Info{Now: now}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Pick() = %v, want ErrUnavailable", err)
	}
	for _, n := range b.Set().Nodes() {
		if n.InFlight() != 0 {
			t.Errorf("InFlight() = %d, want 0", n.InFlight())
		}
	}
}

func TestLimitHoldsUnderContention(t *testing.T) {
	b := New(Config{Limit: &LimitConfig{Max: 3}})
	b.Update(endpoints(4))
	now := time.Now()
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 2000 {
				p, err := b.Pick(Info{Now: now})
				if err != nil {
					continue
				}
				if n := p.Node().InFlight(); n > 3 {
					t.Errorf("%d in flight, want at most 3", n)
				}
				p.Done(Report{Now: now})
			}
		})
	}
	all.Wait()
	for _, n := range b.Set().Nodes() {
		if n.InFlight() != 0 {
			t.Errorf("InFlight() = %d at rest, want 0", n.InFlight())
		}
	}
}

func TestAdaptiveLimitFollowsLateAttempts(t *testing.T) {
	b := New(Config{Limit: &LimitConfig{Adaptive: true}, Rand: seeded()})
	b.Update(endpoints(1))
	n, now := b.Set().Nodes()[0], b.base.Add(time.Second)
	picks := make([]Pick, 100)
	for i := range picks {
		picks[i], _ = b.Pick(Info{Now: now})
	}
	for _, r := range []Report{
		{Outcome: resilience.Failure},
		{Outcome: resilience.Failure, Latency: time.Second}, // it could have taken for ever
		{Outcome: resilience.Failure, Latency: 49, Bound: 100},
	} {
		r.Now = now
		picks[0].Done(r)
		if got, ok := n.Limit(); ok {
			t.Errorf("Limit() = %d after %+v, want none while nothing is late", got, r)
		}
		picks[0], _ = b.Pick(Info{Now: now})
	}
	picks[0].Done(Report{Now: now, Outcome: resilience.Failure, Latency: 50, Bound: 100})
	if got, _ := n.Limit(); got != 199 {
		t.Errorf("Limit() = %d, want nearly twice the 100 that were in flight", got)
	}
	for _, p := range picks[1:] {
		p.Done(Report{Now: now, Outcome: resilience.Overload})
	}
	if got, _ := n.Limit(); got > 130 {
		t.Errorf("Limit() = %d after a round of refusals, want about three fifths of 200", got)
	}
	for range 1000 {
		p, _ := b.Pick(Info{Now: now})
		p.Done(Report{Now: now, Outcome: resilience.Overload})
	}
	if got, _ := n.Limit(); got != 1 {
		t.Errorf("Limit() = %d, want the least", got)
	}
	p, _ := b.Pick(Info{Now: now})
	if _, err := b.Pick(Info{Now: now}); !errors.Is(err, ErrLimited) {
		t.Errorf("Pick() = %v, want ErrLimited", err)
	}
	p.Done(Report{Now: now.Add(limitMemory + 1), Outcome: resilience.Success})
	if got, ok := n.Limit(); ok {
		t.Errorf("Limit() = %d although nothing was late for 10 s", got)
	}
}

func TestNodeKeepsToTwoCacheLines(t *testing.T) {
	if got := unsafe.Sizeof(Node{}); got != 128 {
		t.Errorf("a node is %d bytes, want 128", got)
	}
}

func TestPickWithLimitAllocatesNothing(t *testing.T) {
	b := New(Config{Limit: &LimitConfig{Adaptive: true}})
	b.Update(endpoints(10))
	now := time.Now()
	if n := testing.AllocsPerRun(1000, func() {
		p, _ := b.Pick(Info{Now: now})
		p.Done(Report{Now: now})
	}); n != 0 {
		t.Errorf("%v allocations a pick", n)
	}
}

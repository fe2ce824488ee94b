package loadbalance

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

func TestPickErrors(t *testing.T) {
	b := New(Config{Breaker: &resilience.BreakerConfig{Consecutive: 1, OpenFor: time.Hour}})
	now := time.Now()
	if _, err := b.Pick(Info{Now: now}); !errors.Is(err, ErrNoEndpoints) {
		t.Errorf("Pick() of an empty set = %v, want ErrNoEndpoints", err)
	}
	b.Update(endpoints(2))
	nodes := b.Set().Nodes()
	if _, err := b.Pick(Info{Now: now, Avoid: nodes, Other: true}); !errors.Is(err, ErrNoOther) {
		t.Errorf("Pick() with all tried = %v, want ErrNoOther", err)
	}
	p, err := b.Pick(Info{Now: now, Avoid: nodes[:1], Other: true})
	if err != nil || p.Node() != nodes[1] || !p.Start().Equal(now) {
		t.Errorf("Pick() = %v, %v, want the node not tried", p.Node(), err)
	}
	p.Done(Report{Now: now, Outcome: resilience.Failure})
	if _, err := b.Pick(Info{Now: now, Avoid: nodes[:1], Other: true}); !errors.Is(err, ErrNoOther) {
		t.Errorf("Pick() with the other node's breaker open = %v, want ErrNoOther", err)
	}
	if p, err = b.Pick(Info{Now: now, Avoid: nodes[:1]}); err != nil || p.Node() != nodes[0] {
		t.Errorf("Pick() = %v, %v, want the tried node, the only one admitted", p.Node(), err)
	}
	p.Done(Report{Now: now, Outcome: resilience.Failure})
	if _, err := b.Pick(Info{Now: now}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Pick() with all breakers open = %v, want ErrUnavailable", err)
	}
	b.Update(nil)
	if _, err := b.Pick(Info{Now: now}); !errors.Is(err, ErrNoEndpoints) {
		t.Errorf("Pick() of a set that was emptied = %v, want ErrNoEndpoints", err)
	}
	Pick{}.Done(Report{Now: now}) // no node: nothing happens
	if got := (Pick{}).Node(); got != nil {
		t.Errorf("Node() of the zero Pick = %v, want nil", got)
	}
}

// A picker sees a breaker on probation as available; when it admits no more the pick goes elsewhere.
func TestPickGoesElsewhereDuringProbation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{Builder: WeightedRoundRobin, Breaker: &resilience.BreakerConfig{Consecutive: 1, OpenFor: time.Second}})
		b.Update(endpoints(3))
		bad := b.Set().Nodes()[0]
		only := b.View([]*Node{bad})
		p, _ := only.Pick(Info{Now: time.Now()})
		p.Done(Report{Now: time.Now(), Outcome: resilience.Failure})
		time.Sleep(1001 * ms)
		probe, err := only.Pick(Info{Now: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		for range 30 {
			p, err := b.Pick(Info{Now: time.Now()})
			if err != nil || p.Node() == bad {
				t.Fatalf("Pick() during the probe = %v, %v, want another node", p.Node(), err)
			}
			p.Done(Report{Now: time.Now()})
		}
		for _, o := range []resilience.Outcome{resilience.Neutral, resilience.Overload, resilience.Neutral} {
			probe.Done(Report{Now: time.Now(), Outcome: o})
			if probe, err = only.Pick(Info{Now: time.Now()}); err != nil {
				t.Fatalf("%v did not give the permit back: %v", o, err)
			}
		}
		probe.Done(Report{Now: time.Now(), Outcome: resilience.Success})
		if got := bad.BreakerState(time.Now()); got != "closed" {
			t.Errorf("State() after the probe succeeded = %q, want closed", got)
		}
	})
}

func TestLateResultOfAnOlderBreakerStateIsIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{Breaker: &resilience.BreakerConfig{Consecutive: 1, OpenFor: time.Second}})
		b.Update(endpoints(1))
		n := b.Set().Nodes()[0]
		pick := func() Pick {
			p, err := b.Pick(Info{Now: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		lateSuccess, lateFailure := pick(), pick()
		pick().Done(Report{Now: time.Now(), Outcome: resilience.Failure})
		lateSuccess.Done(Report{Now: time.Now(), Outcome: resilience.Success})
		if got := n.BreakerState(time.Now()); got != "open" {
			t.Errorf("State() after a late success = %q, want open", got)
		}
		if !n.Penalized(time.Now()) {
			t.Error("a late success cleared the penalty")
		}
		time.Sleep(1001 * ms)
		pick().Done(Report{Now: time.Now(), Outcome: resilience.Success})
		lateFailure.Done(Report{Now: time.Now(), Outcome: resilience.Failure})
		if got := n.BreakerState(time.Now()); got != "closed" {
			t.Errorf("State() after a late failure = %q, want closed", got)
		}
	})
}

func TestDoneTeachesByOutcome(t *testing.T) {
	for _, c := range []struct {
		name      string
		report    Report
		cost      time.Duration // 0: unknown
		penalized bool
	}{
		{"success", Report{Latency: 10 * ms}, 10 * ms, false},
		{"success of unknown speed", Report{}, 0, false},
		{"fast failure", Report{Outcome: resilience.Failure, Latency: ms}, 0, true},
		{"slow failure", Report{Outcome: resilience.Failure, Latency: time.Second}, time.Second, true},
		{"overload", Report{Outcome: resilience.Overload, Latency: ms}, 0, true},
		{"called off", Report{Outcome: resilience.Neutral}, 0, false},
		{"given up early", Report{Outcome: resilience.Neutral, Latency: ms}, 0, false},
		{"given up late", Report{Outcome: resilience.Neutral, Latency: 400 * ms}, 400 * ms, false},
	} {
		b := New(Config{})
		b.Update(endpoints(1))
		now := time.Now()
		p, err := b.Pick(Info{Now: now})
		if err != nil {
			t.Fatal(err)
		}
		n := p.Node()
		if got := n.InFlight(); got != 1 {
			t.Errorf("%s: InFlight() before Done = %d, want 1", c.name, got)
		}
		c.report.Now = now
		p.Done(c.report)
		if got := n.InFlight(); got != 0 {
			t.Errorf("%s: InFlight() after Done = %d, want 0", c.name, got)
		}
		got, ok := n.Cost(now)
		if ok != (c.cost > 0) || ok && !near(float64(got), float64(c.cost), 0.001) {
			t.Errorf("%s: Cost() = %v, %v, want %v", c.name, got, ok, c.cost)
		}
		if got := n.Penalized(now.Add(50 * ms)); got != c.penalized {
			t.Errorf("%s: Penalized() = %v, want %v", c.name, got, c.penalized)
		}
	}
}

func TestCalledOffProbeIsRepeated(t *testing.T) {
	b := New(Config{})
	b.Update(endpoints(1))
	now := time.Now()
	attempt := func(o resilience.Outcome) *Node {
		p, err := b.Pick(Info{Now: now})
		if err != nil {
			t.Fatal(err)
		}
		p.Done(Report{Now: now.Add(ms), Outcome: o})
		now = now.Add(400 * ms)
		return p.Node()
	}
	attempt(resilience.Failure)
	if n := attempt(resilience.Neutral); n.Penalized(now.Add(-390 * ms)) {
		t.Error("a probe that was called off keeps the node avoided")
	}
}

func TestPickAndDoneDoNotAllocate(t *testing.T) {
	for _, p := range policies {
		b := New(Config{Builder: p.build})
		b.Update(endpoints(10, 1, 2))
		now := time.Now()
		for _, o := range []resilience.Outcome{resilience.Success, resilience.Failure, resilience.Neutral} {
			if got := testing.AllocsPerRun(200, func() {
				now = now.Add(ms)
				pick, _ := b.Pick(Info{Now: now})
				pick.Done(Report{Now: now, Outcome: o, Latency: 40 * ms})
			}); got != 0 {
				t.Errorf("%s: pick with %v allocates %v times, want 0", p.name, o, got)
			}
		}
	}
}

func TestOverdueAttemptCountsForPicksOnly(t *testing.T) {
	b := New(Config{Breaker: &resilience.BreakerConfig{Consecutive: 1, OpenFor: time.Hour}})
	b.Update(endpoints(1))
	n := b.Set().Nodes()[0]
	now := time.Now()
	for _, overdue := range []bool{false, true} {
		p, err := b.Pick(Info{Now: now})
		if err != nil {
			t.Fatal(err)
		}
		now = now.Add(200 * ms)
		p.Done(Report{Now: now, Outcome: resilience.Neutral, Latency: 200 * ms, Overdue: overdue})
		if got := n.Penalized(now); got != overdue {
			t.Errorf("Penalized() after an attempt with Overdue %v = %v", overdue, got)
		}
		if got, _ := n.Cost(now); got < 199*ms {
			t.Errorf("Cost() with Overdue %v = %v, want 200ms", overdue, got)
		}
	}
	if !n.Available(now) {
		t.Error("the breaker opened")
	}
}

func TestSoundKnowsWhetherAnEndpointIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{Breaker: &resilience.BreakerConfig{Consecutive: 1, OpenFor: time.Hour}})
		if b.Set().Sound(Info{Now: time.Now()}) {
			t.Error("an empty set is sound")
		}
		b.Update(endpoints(3))
		nodes := b.Set().Nodes()
		end := func(n *Node, o resilience.Outcome, after time.Duration) {
			p, err := b.View([]*Node{n}).Pick(Info{Now: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			p.Done(Report{Now: time.Now(), Outcome: o, After: after})
		}
		end(nodes[0], resilience.Failure, 0)               // its breaker opens
		end(nodes[1], resilience.Overload, 10*time.Second) // it asks for a pause
		in := Info{Now: time.Now()}
		if !b.Set().Sound(in) {
			t.Error("Sound() = false with one endpoint left")
		}
		in.Sound = true
		for range 20 {
			p, err := b.Pick(in)
			if err != nil || p.Node() != nodes[2] {
				t.Fatalf("Pick() = %v, %v, want the only sound node", p.Node(), err)
			}
			p.Done(Report{Now: time.Now(), Outcome: resilience.Success})
		}
		in.Avoid = nodes[2:]
		if b.Set().Sound(in) {
			t.Error("Sound() = true with one open, one pausing and one tried endpoint")
		}
		time.Sleep(10 * time.Second)
		if in.Now = time.Now(); !b.Set().Sound(in) {
			t.Error("Sound() = false after the pause")
		}
	})
}

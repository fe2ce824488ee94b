package loadbalance

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
)

func TestWhatIsKnownSurvivesAShortAbsence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{
			Outlier:   &OutlierConfig{Consecutive: 1, Ejection: 50 * time.Second},
			Breaker:   &resilience.BreakerConfig{Consecutive: 1, OpenFor: time.Hour},
			SlowStart: &SlowStart{},
		})
		eps := endpoints(3)
		b.Update(eps)
		end := func(n *Node, r Report) {
			p, err := b.View([]*Node{n}).Pick(Info{Now: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			r.Now = time.Now()
			p.Done(r)
		}
		before := b.Set().Nodes()
		end(before[1], Report{Latency: 77 * ms})
		end(before[2], Report{Outcome: resilience.Failure})
		b.Update(eps[:1])
		time.Sleep(100 * ms)
		b.Update(eps)
		after := b.Set().Nodes()
		if after[1] == before[1] || !before[1].gone() {
			t.Error("the released node came back")
		}
		if got, ok := after[1].Cost(time.Now()); !ok || !near(float64(got), float64(77*ms), 0.02) {
			t.Errorf("Cost() = %v, %v, want 77ms", got, ok)
		}
		if after[1].young.Load() != 0 {
			t.Error("a known node starts slowly")
		}
		if n := after[2]; !n.Ejected() || !n.Penalized(time.Now()) || n.BreakerState(time.Now()) != "open" {
			t.Errorf("failed node: ejected %v, penalized %v, breaker %s", n.Ejected(), n.Penalized(time.Now()), n.BreakerState(time.Now()))
		}
		if got := b.setup.Load().outliers.out; got != 1 {
			t.Errorf("ejected nodes = %d, want 1", got)
		}
		b.Update(eps[:1])
		time.Sleep(keepAbsent + time.Second)
		b.Update(eps)
		if n := b.Set().Nodes()[2]; n.Ejected() || n.BreakerState(time.Now()) != "closed" || n.young.Load() == 0 {
			t.Error("what was known of a node is not forgotten")
		}
	})
}

func TestAbsencesAreBounded(t *testing.T) {
	b := New(Config{})
	for round := range 40 {
		eps := make([]discovery.Endpoint, 1000)
		for i := range eps {
			eps[i].Addr = fmt.Sprint(round, "-", i)
		}
		b.Update(eps)
		for _, n := range b.Set().Nodes() {
			n.cost.observe(time.Second, ms)
		}
		b.Update(nil)
	}
	for range 100 { // the same ones over and over
		b.Update(endpoints(200))
		b.Update(nil)
	}
	if got := len(b.absent.queue); got > maxAbsent {
		t.Errorf("remembers %d departures, want <= %d", got, maxAbsent)
	}
	if got := len(b.absent.byAddr); got > maxAbsent {
		t.Errorf("remembers %d addresses, want <= %d", got, maxAbsent)
	}
}

// An endpoint that comes and goes leaves no trail, which would crowd out what is known of others.
func TestEndpointThatFlapsIsRememberedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{})
		eps := endpoints(3)
		b.Update(eps)
		for _, n := range b.Set().Nodes() {
			n.cost.observe(n.since(time.Now()), 40*ms)
		}
		b.Update(eps[:2]) // the last one stays away
		for i := range 20_000 {
			b.Update(eps[:1+i%2])
			time.Sleep(ms)
		}
		if got := len(b.absent.queue); got > fewAbsent {
			t.Errorf("%d absences are kept of two endpoints", got)
		}
		b.Update(eps)
		for _, n := range b.Set().Nodes() {
			if cost, ok := n.Cost(time.Now()); !ok || cost == 0 {
				t.Errorf("the cost of %s is forgotten", n.Addr())
			}
		}
	})
}

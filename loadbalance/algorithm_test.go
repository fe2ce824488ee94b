package loadbalance

import (
	"testing"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

func TestByPicksFromTheSameNodes(t *testing.T) {
	b := New(Config{Builder: alwaysFirst})
	b.Update(endpoints(3))
	turns := &Algorithm{Builder: WeightedRoundRobin}
	set := b.Set()
	by := set.By(turns)
	if by == set || set.By(turns) != by || set.By(nil) != set {
		t.Error("By() makes a set each time, or none")
	}
	seen := map[string]int{}
	for range 30 {
		p, err := by.Pick(Info{Now: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		if p.Node().InFlight() != 1 {
			t.Errorf("%s has %d in flight, want the pick to count", p.Node().Addr(), p.Node().InFlight())
		}
		seen[p.Node().Addr()]++
		p.Done(Report{Now: time.Now(), Outcome: resilience.Success})
	}
	for _, n := range set.Nodes() {
		if seen[n.Addr()] != 10 {
			t.Errorf("%s got %d of 30 picks in turn", n.Addr(), seen[n.Addr()])
		}
	}
	for range 2 * maxAlgorithms {
		set.By(&Algorithm{Builder: Random})
	}
	if got := len(*set.algorithms.Load()); got != maxAlgorithms {
		t.Errorf("%d algorithms are kept, want %d", got, maxAlgorithms)
	}
	if allocs := testing.AllocsPerRun(100, func() { set.By(turns) }); set.By(turns) == nil || allocs > 0 {
		t.Errorf("By() allocates %v times", allocs)
	}
}

// alwaysFirst always picks the first node.
func alwaysFirst(nodes []*Node) Picker { return firstPicker{nodes[0]} }

type firstPicker struct{ n *Node }

func (p firstPicker) Pick(Info) *Node { return p.n }

func TestByKeepsPrioritiesAndEjections(t *testing.T) {
	b := New(Config{Outlier: &OutlierConfig{}})
	eps := endpoints(6)
	for i := range eps[3:] {
		eps[3+i].Priority = 1
	}
	b.Update(eps)
	by := b.Set().By(&Algorithm{Builder: Random})
	pick := func() *Node {
		p, err := by.Pick(Info{Now: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		p.Done(Report{Now: time.Now(), Outcome: resilience.Success, Latency: time.Millisecond})
		return p.Node()
	}
	for range 100 {
		if n := pick(); n.Endpoint().Priority != 0 {
			t.Fatalf("picked %s of priority %d while the first one serves", n.Addr(), n.Endpoint().Priority)
		}
	}
	for i := range 3 {
		b.SetFailing(eps[i].Addr, true, time.Now())
	}
	for range 100 {
		if n := pick(); n.Endpoint().Priority != 1 {
			t.Fatalf("picked %s, which fails its checks", n.Addr())
		}
	}
}

package loadbalance

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/zerohop/zerohop/discovery"
)

// The numbers are those of Envoy's documentation, in whole percent.
func TestLevelLoads(t *testing.T) {
	for _, c := range []struct {
		healthy []int // percent
		want    []int
		enough  bool
	}{
		{[]int{100, 100}, []int{100, 0}, true},
		{[]int{72, 100}, []int{100, 0}, true},
		{[]int{71, 100}, []int{99, 1}, true},
		{[]int{50, 100}, []int{70, 30}, true},
		{[]int{25, 100}, []int{35, 65}, true},
		{[]int{0, 100}, []int{0, 100}, true},
		{[]int{25, 25}, []int{50, 50}, false},
		{[]int{25, 25, 20}, []int{36, 36, 29}, false}, // 28.6: truncated in the documentation
		{[]int{5, 65}, []int{7, 93}, false},
		{[]int{50, 50, 50}, []int{70, 30, 0}, true},
		{[]int{0, 0}, []int{0, 0}, false},
		{[]int{10}, []int{100}, false},
	} {
		loads := make([]float64, len(c.healthy))
		for i, h := range c.healthy {
			loads[i] = levelHealth(h, 100, 1.4)
		}
		enough := levelLoads(loads)
		got := make([]int, len(loads))
		for i, l := range loads {
			got[i] = int(math.Round(100 * l))
		}
		if !slices.Equal(got, c.want) || enough != c.enough {
			t.Errorf("loads of levels with %v %% = %v, %v, want %v, %v", c.healthy, got, enough, c.want, c.enough)
		}
	}
}

func TestCallsSpillToTheNextLevel(t *testing.T) {
	for _, c := range []struct {
		healthy int // of 20 in the first level
		want    float64
	}{
		{20, 1}, {15, 1}, {10, 0.7}, {5, 0.35}, {0, 0},
	} {
		var eps []discovery.Endpoint
		for i := range 40 {
			ep := discovery.Endpoint{Addr: fmt.Sprint("a", i)}
			if i >= 20 {
				ep.Priority = 3
			} else if i >= c.healthy {
				ep.Health = discovery.Unhealthy
			}
			eps = append(eps, ep)
		}
		// Draining endpoints are leaving and are no loss.
		for i := range 20 {
			eps = append(eps, discovery.Endpoint{Addr: fmt.Sprint("d", i), Health: discovery.Draining})
		}
		b := New(Config{Builder: Random, Rand: seeded()})
		b.Update(eps)
		const picks = 20_000
		first := 0
		for range picks {
			p, err := b.Pick(Info{Now: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			ep := p.Node().Endpoint()
			if ep.Health != discovery.Healthy {
				t.Fatalf("picked %s, which is %v", ep.Addr, ep.Health)
			}
			if ep.Priority == 0 {
				first++
			}
		}
		if got := float64(first) / picks; math.Abs(got-c.want) > 0.015 {
			t.Errorf("share of a first level with %d of 20 = %.3f, want %.2f", c.healthy, got, c.want)
		}
	}
}

func TestRetryLeavesALevelWithoutAnother(t *testing.T) {
	b := New(Config{})
	b.Update([]discovery.Endpoint{{Addr: "a"}, {Addr: "b", Priority: 1}, {Addr: "c", Priority: 2}})
	nodes := b.Set().Nodes()
	for tried := range 3 {
		p, err := b.Pick(Info{Now: time.Now(), Avoid: nodes[:tried], Other: true})
		if err != nil || p.Node() != nodes[tried] {
			t.Errorf("Pick() after %d attempts = %v, %v, want %s", tried, p.Node(), err, nodes[tried].Addr())
		}
	}
}

func TestLevelsStandChangesMeanwhile(t *testing.T) {
	b := New(Config{})
	eps := endpoints(4)
	eps[2].Priority, eps[3].Priority = 1, 1
	b.Update(eps)
	nodes := b.Set().Nodes()
	var got []int
	b.setup.Load().cfg.Builder = func(list []*Node) Picker {
		got = append(got, len(list))
		for _, n := range nodes[2:] { // as an update does that comes while the levels are made
			ep := n.Endpoint()
			ep.Health = discovery.Unhealthy
			n.set(&ep)
		}
		return Random(list)
	}
	set := b.View(nodes)
	if want := []int{2, 2}; !slices.Equal(got, want) {
		t.Errorf("nodes of the levels = %v, want %v", got, want)
	}
	if p, err := set.Pick(Info{Now: time.Now(), Avoid: nodes[:2]}); err != nil || p.Node() == nil {
		t.Errorf("Pick() = %v, %v, want a node", p.Node(), err)
	}
}

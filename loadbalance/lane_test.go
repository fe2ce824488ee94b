package loadbalance

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
)

// inLane returns the places of the nodes of a lane in the set.
func inLane(s *Set, stable, lane string) (at []int) {
	sub := s.Lane("lane", stable, lane)
	if sub == nil {
		return nil
	}
	for _, n := range sub.Nodes() {
		at = append(at, slices.Index(s.Nodes(), n))
	}
	return at
}

func TestLaneReturnsItsNodes(t *testing.T) {
	b := New(Config{})
	b.Update(tagged("lane=x", "lane=", "", "lane=y", "lane=stable", "lane=x,v=1", "v=1"))
	for _, tt := range []struct {
		stable, lane string
		want         []int
	}{
		{"stable", "", []int{1, 2, 4, 6}},
		{"stable", "stable", []int{1, 2, 4, 6}},
		{"stable", "x", []int{0, 5}},
		{"stable", "y", []int{3}},
		{"stable", "z", nil},
		{"main", "", []int{1, 2, 6}},
		{"main", "stable", []int{4}},
		{"", "", []int{1, 2, 6}},
	} {
		for range 2 {
			if got := inLane(b.Set(), tt.stable, tt.lane); !slices.Equal(got, tt.want) {
				t.Errorf("Lane(%q, %q) has nodes %v, want %v", tt.stable, tt.lane, got, tt.want)
			}
		}
	}
	part := b.Set().Lane("lane", "stable", "x").Matching([]string{"v"}, []string{"1"})
	if part == nil || len(part.Nodes()) != 1 || part.Nodes()[0] != b.Set().Nodes()[5] {
		t.Error("the part of a lane with some metadata is not its node")
	}
	if got := b.Set().Matching([]string{"lane"}, []string{""}); got == nil || len(got.Nodes()) != 1 {
		t.Error("lanes have changed what has an empty value")
	}
	if got := new(Set).Lane("lane", "", ""); got != nil {
		t.Errorf("Lane() of an empty set = %v, want nil", got)
	}
}

func TestSetWithoutLanesIsItsOwnStableLane(t *testing.T) {
	b := New(Config{})
	b.Update(endpoints(3))
	set := b.Set()
	if got := set.Lane("lane", "stable", ""); got != set {
		t.Errorf("Lane() = %p, want the set itself, %p", got, set)
	}
	if n := testing.AllocsPerRun(100, func() { set.Lane("lane", "stable", "") }); n != 0 {
		t.Errorf("Lane() makes %v allocations, want 0", n)
	}
	view := b.Reachable(slices.Clone(set.Nodes()[:2]), nil)
	if got := view.Lane("lane", "stable", ""); got != view {
		t.Error("Lane() of a view without lanes is another set")
	}
}

// A lane is known of by those it could reach, so that the priorities of its nodes count in it and not those of the others.
func TestLaneOfAViewKnowsItsOwnPriorities(t *testing.T) {
	b := New(Config{})
	eps := tagged("lane=x", "lane=x", "", "")
	eps[1].Priority, eps[3].Priority = 1, 1
	b.Update(eps)
	all := b.Set().Nodes()
	view := b.Reachable([]*Node{all[1], all[2]}, []*Node{all[0]})
	if got := view.Lane("lane", "", "x"); got == nil || len(got.Nodes()) != 0 {
		t.Errorf("the lane does not wait for its better node: %v", got)
	}
	if got := view.Lane("lane", "", ""); got == nil || len(got.Nodes()) != 1 || got.Nodes()[0] != all[2] {
		t.Errorf("the nodes in no lane wait for one of a lane: %v", got)
	}
}

func TestServesUnlessOutOfService(t *testing.T) {
	b := New(Config{Outlier: &OutlierConfig{Consecutive: 1, Ejection: time.Minute, Jitter: -1, Absolute: true, One: true}})
	b.Update(tagged("lane=x", "", "", ""))
	now := time.Now()
	lane := b.Set().Lane("lane", "", "x")
	node := lane.Nodes()[0]
	in := Info{Now: now}
	if !lane.Serves(in) {
		t.Error("a lane whose node is well does not serve")
	}
	if in.Avoid = []*Node{node}; lane.Serves(in) {
		t.Error("a lane whose node was tried serves")
	}
	in.Avoid = nil
	p, err := lane.Pick(in)
	if err != nil {
		t.Fatal(err)
	}
	p.Done(Report{Now: now.Add(time.Second), Outcome: resilience.Failure})
	if in.Now = now.Add(2 * time.Second); lane.Serves(in) {
		t.Error("a lane whose node is ejected serves")
	}
	if p, err := lane.Pick(in); err != nil || p.Node() != node {
		t.Errorf("Pick() = %v, %v, want the ejected node, as there is no other", p.Node(), err)
	}
	if in.Now = now.Add(3 * time.Minute); !lane.Serves(in) {
		t.Error("a lane whose node is to be tried again does not serve")
	}
	b.SetFailing(node.Addr(), true, in.Now)
	if lane.Serves(in) {
		t.Error("a lane whose node fails its checks serves")
	}
	eps := tagged("lane=x", "")
	eps[0].Health = discovery.Unhealthy
	b.Update(eps)
	if b.Set().Lane("lane", "", "x").Serves(in) {
		t.Error("a lane whose node is not healthy serves")
	}
}

// A client that keeps to a part of a large service knows its lanes all the same.
func TestSubsetHasEndpointsOfEachLane(t *testing.T) {
	metas := make([]string, 500)
	metas[123], metas[456] = "lane=x", "lane=y"
	eps := tagged(metas...)
	for client := range 50 {
		s := Subset{Size: 20, Client: fmt.Sprint(client), Lane: "lane", Stable: "stable"}
		got := s.of(eps, "")
		lanes := map[string]int{}
		for i := range got {
			lanes[got[i].Meta["lane"]]++
		}
		if lanes[""] != 20 || lanes["x"] != 1 || lanes["y"] != 1 {
			t.Fatalf("the subset has endpoints of lanes %v, want 20 of none and one of x and y each", lanes)
		}
	}
}

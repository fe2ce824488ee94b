package loadbalance

import (
	"testing"

	"github.com/zerohop/zerohop/discovery"
)

// The last of the levels takes what those before it cannot, be it because their nodes cannot be reached.
func TestWhatCannotBeReachedCountsAsOutOfService(t *testing.T) {
	t.Run("all nodes", func(t *testing.T) { testReachable(t, false) })
	t.Run("a subset", func(t *testing.T) { testReachable(t, true) })
}

// testReachable does so for all nodes, or for those with some metadata of twice as many.
func testReachable(t *testing.T, part bool) {
	for _, c := range []struct {
		name         string
		ready, await int // of ten of the first level
		second       int // of ten of the second
		want         float64
		empty        bool
	}{
		{"all", 10, 0, 10, 1, false},
		{"one is left", 1, 0, 10, 0.14, false},
		{"one is left and some are awaited", 1, 5, 10, 0.84, false},
		{"one is left and all are awaited", 1, 9, 10, 1, false},
		{"none is left", 0, 0, 10, 0, false},
		{"none is left and one is awaited", 0, 1, 10, 0, true},
		{"one is left, and one of the second", 1, 0, 1, 0.5, false},
		{"one of each level", 1, 0, 0, 1, false},
	} {
		b := New(Config{Builder: Random, Rand: seeded()})
		eps := endpoints(20)
		for i := 10; i < 20; i++ {
			eps[i].Priority = 1
		}
		eps = append(eps, discovery.Endpoint{Addr: "leaving", Health: discovery.Draining})
		for i := range eps {
			eps[i].Meta = map[string]string{"v": "1"}
		}
		if part { // the others can be reached
			for _, ep := range eps {
				ep.Addr, ep.Meta = "other-"+ep.Addr, map[string]string{"v": "2"}
				eps = append(eps, ep)
			}
		}
		b.Update(eps)
		nodes := b.Set().Nodes()
		ready := append(append([]*Node(nil), nodes[:c.ready]...), nodes[10:10+c.second]...)
		ready = append(ready, nodes[21:]...)
		set := b.Reachable(ready, nodes[c.ready:c.ready+c.await])
		if part {
			set = set.Matching([]string{"v"}, []string{"1"})
		}
		if got := len(set.Nodes()) == 0; got != c.empty {
			t.Errorf("%s: set is empty = %v, want %v", c.name, got, c.empty)
		}
		if c.empty {
			continue
		}
		first := 0
		const picks = 5000
		for range picks {
			p, err := set.Pick(Info{Now: b.base})
			if err != nil {
				t.Fatal(err)
			}
			if p.Node().Endpoint().Priority == 0 {
				first++
			}
		}
		if got := float64(first) / picks; !near(got, c.want, 0.02) {
			t.Errorf("%s: share of the first level = %.3f, want %.2f", c.name, got, c.want)
		}
	}
}

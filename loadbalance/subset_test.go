package loadbalance

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

// The dispersion is that of random subsets, by the formula in the comment of Subset.
func TestSubsetsSpreadTheClients(t *testing.T) {
	for _, c := range []struct {
		clients, servers, size int
	}{{100, 100, 25}, {100, 100, 5}, {1000, 1000, 20}} {
		nodes := newNodes(c.servers)
		counts := map[*Node]float64{}
		for client := range c.clients {
			s := Subset(nodes, c.size, fmt.Sprint("client-", client))
			if len(s) != c.size {
				t.Fatalf("subset has %d nodes, want %d", len(s), c.size)
			}
			for _, n := range s {
				counts[n]++
			}
		}
		mean := float64(c.clients*c.size) / float64(c.servers)
		var squares float64
		for _, n := range nodes {
			squares += (counts[n] - mean) * (counts[n] - mean)
		}
		cv := math.Sqrt(squares/float64(c.servers)) / mean
		want := math.Sqrt((1 - float64(c.size)/float64(c.servers)) / mean)
		t.Logf("%+v: cv %.3f, formula %.3f", c, cv, want)
		if math.Abs(cv/want-1) > 0.2 { // the deviation of a deviation of 100 values is 7 %
			t.Errorf("%+v: coefficient of variation %.3f, want %.3f within 20 %%", c, cv, want)
		}
	}
}

func TestSubsetsAreStable(t *testing.T) {
	nodes := newNodes(100)
	before := Subset(nodes, 10, "a")
	if turned := slices.Clone(nodes); true {
		slices.Reverse(turned)
		after := Subset(turned, 10, "a")
		slices.Reverse(after)
		if !slices.Equal(before, after) {
			t.Error("the subset depends on the order of the list")
		}
	}
	for i := range nodes {
		left := slices.Delete(slices.Clone(nodes), i, i+1)
		kept := 0
		for _, n := range Subset(left, 10, "a") {
			if slices.Contains(before, n) {
				kept++
			}
		}
		want := 10
		if slices.Contains(before, nodes[i]) {
			want = 9
		}
		if kept != want {
			t.Errorf("without node %d the subset kept %d nodes, want %d", i, kept, want)
		}
	}
	for _, size := range []int{100, 101, math.MaxInt} {
		if got := Subset(nodes, size, "a"); !slices.Equal(got, nodes) {
			t.Errorf("subset of %d of 100 nodes has %d", size, len(got))
		}
	}
	for _, size := range []int{1, 0, -1, math.MinInt} {
		if got := Subset(nodes, size, "a"); len(got) != 1 {
			t.Errorf("subset of size %d has %d nodes, want 1", size, len(got))
		}
	}
	if got := Subset(nil, 3, "a"); len(got) != 0 {
		t.Errorf("subset of no nodes has %d", len(got))
	}
}

func TestAperturesGiveEveryNodeAsManyClients(t *testing.T) {
	for _, c := range []struct {
		clients, servers, size, spread int
	}{{100, 100, 25, 0}, {100, 100, 5, 0}, {1000, 1000, 20, 0}, {300, 100, 12, 0}, {97, 101, 12, 1}, {7, 1000, 20, 1}, {1000, 7, 3, 1}, {1, 10, 3, 1}} {
		nodes := newNodes(c.servers)
		counts := map[*Node]int{}
		for client := range c.clients {
			for _, n := range Aperture(nodes, c.size, client, c.clients) {
				counts[n]++
			}
		}
		least, most, sum := math.MaxInt, 0, 0
		for _, n := range nodes {
			least, most, sum = min(least, counts[n]), max(most, counts[n]), sum+counts[n]
		}
		if sum != c.clients*c.size || most-least > c.spread {
			t.Errorf("%+v: nodes have %d to %d clients, %d in all, want no more than %d apart", c, least, most, sum, c.spread)
		}
	}
}

func TestAperturesAreStable(t *testing.T) {
	const clients, size = 40, 12
	nodes := newNodes(100)
	for client := range clients {
		before := Aperture(nodes, size, client, clients)
		for i := range nodes {
			left := slices.Delete(slices.Clone(nodes), i, i+1)
			kept := 0
			for _, n := range Aperture(left, size, client, clients) {
				if slices.Contains(before, n) {
					kept++
				}
			}
			if kept < size-2 {
				t.Fatalf("without node %d client %d kept %d of %d nodes, want all but two", i, client, kept, size)
			}
		}
	}
}

func TestAperturesTakeAnyNumbers(t *testing.T) {
	nodes := newNodes(10)
	extremes := []int{math.MinInt, -1, 0, 1, 3, 10, math.MaxInt}
	for _, size := range extremes {
		for _, client := range extremes {
			for _, clients := range extremes {
				got := Aperture(nodes, size, client, clients)
				if want := min(max(size, 1), len(nodes)); len(got) != want {
					t.Errorf("Aperture(10 nodes, %d, %d, %d) has %d nodes, want %d", size, client, clients, len(got), want)
				}
			}
		}
	}
	if got := Aperture(nil, 3, 1, 2); len(got) != 0 {
		t.Errorf("aperture of no nodes has %d", len(got))
	}
}

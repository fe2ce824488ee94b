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

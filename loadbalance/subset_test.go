package loadbalance

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/zerohop/zerohop/discovery"
)

// chosen returns the addresses that a client keeps to, however few there are.
func (s Subset) chosen(eps []discovery.Endpoint) (addrs []string) {
	all := make([]int, len(eps))
	for i := range all {
		all[i] = i
	}
	for _, i := range s.choose(eps, all) {
		addrs = append(addrs, eps[i].Addr)
	}
	return addrs
}

// The dispersion is that of random subsets, by the formula in the comment of Subset.
func TestSubsetsSpreadTheClients(t *testing.T) {
	for _, c := range []struct {
		clients, servers, size int
	}{{100, 100, 25}, {100, 100, 5}, {1000, 1000, 20}} {
		eps := endpoints(c.servers)
		counts := map[string]float64{}
		for client := range c.clients {
			s := (&Subset{Size: c.size, Client: fmt.Sprint("client-", client)}).of(eps, "")
			if len(s) != c.size {
				t.Fatalf("subset has %d endpoints, want %d", len(s), c.size)
			}
			for _, ep := range s {
				counts[ep.Addr]++
			}
		}
		mean := float64(c.clients*c.size) / float64(c.servers)
		var squares, most float64
		for _, ep := range eps {
			squares += (counts[ep.Addr] - mean) * (counts[ep.Addr] - mean)
			most = max(most, counts[ep.Addr]/mean)
		}
		cv := math.Sqrt(squares/float64(c.servers)) / mean
		want := math.Sqrt((1 - float64(c.size)/float64(c.servers)) / mean)
		t.Logf("%+v: cv %.3f, formula %.3f, at most %.2f means", c, cv, want, most)
		bound := 2 / math.Sqrt(2*float64(c.servers)) // twice the deviation of a deviation: 14 % of 100 values
		if math.Abs(cv/want-1) > bound {
			t.Errorf("%+v: coefficient of variation %.3f, want %.3f within %.1f %%", c, cv, want, 100*bound)
		}
		if most > 1+4*want {
			t.Errorf("%+v: an endpoint has %.2f times the mean of clients, want at most %.2f, four deviations more", c, most, 1+4*want)
		}
	}
}

func TestAperturesGiveEveryEndpointAsManyClients(t *testing.T) {
	for _, c := range []struct {
		clients, servers, size, spread int
	}{{100, 100, 25, 0}, {100, 100, 5, 0}, {1000, 1000, 20, 0}, {300, 100, 12, 0}, {97, 101, 12, 1}, {7, 1000, 20, 1}, {1000, 7, 3, 1}, {1, 10, 3, 1}} {
		eps := endpoints(c.servers)
		counts := map[string]int{}
		for client := range c.clients {
			for _, addr := range (Subset{Size: c.size, Index: client, Clients: c.clients}).chosen(eps) {
				counts[addr]++
			}
		}
		least, most, sum := math.MaxInt, 0, 0
		for _, ep := range eps {
			n := counts[ep.Addr]
			least, most, sum = min(least, n), max(most, n), sum+n
		}
		if sum != c.clients*c.size || most-least > c.spread {
			t.Errorf("%+v: endpoints have %d to %d clients, %d in all, want no more than %d apart", c, least, most, sum, c.spread)
		}
	}
}

func TestSubsetsAreStable(t *testing.T) {
	eps := endpoints(100)
	turned := slices.Clone(eps)
	slices.Reverse(turned)
	for _, c := range []struct {
		subset  Subset
		changes int // at most, where one leaves
	}{
		{Subset{Size: 10, Client: "a"}, 1},
		{Subset{Size: 12, Clients: 40, Index: 0}, 2},
		{Subset{Size: 12, Clients: 40, Index: 17}, 2},
		{Subset{Size: 12, Clients: 40, Index: 39}, 2},
	} {
		before := c.subset.chosen(eps)
		if !slices.Equal(before, c.subset.chosen(turned)) {
			t.Errorf("%+v depends on the order of the list", c.subset)
		}
		for i := range eps {
			kept := 0
			for _, addr := range c.subset.chosen(slices.Delete(slices.Clone(eps), i, i+1)) {
				if slices.Contains(before, addr) {
					kept++
				}
			}
			if kept < c.subset.Size-c.changes {
				t.Errorf("without endpoint %d %+v kept %d, want all but %d", i, c.subset, kept, c.changes)
			}
		}
	}
}

// An endpoint that fails stays known, for it may come back, and one other takes its place.
func TestSubsetsReplaceEndpointsThatFail(t *testing.T) {
	for _, s := range []Subset{{Size: 10, Client: "a"}, {Size: 10, Clients: 7, Index: 3}} {
		eps := endpoints(100)
		before := s.chosen(eps)
		for i := range eps {
			if eps[i].Addr == before[4] {
				eps[i].Health = discovery.Unhealthy
			}
		}
		if got := s.chosen(eps); len(got) != 11 || !slices.Equal(got[:10], before) {
			t.Errorf("%+v with one that fails = %v, want one more than %v", s, got, before)
		}
		for i := range eps {
			eps[i].Health = discovery.Draining
		}
		if got := s.chosen(eps); len(got) != 20 {
			t.Errorf("%+v has %d endpoints where none is healthy, want 20", s, len(got))
		}
	}
}

func TestSubsetsAreChosenOfEachPriorityAndZone(t *testing.T) {
	var eps []discovery.Endpoint
	for i := range 300 {
		ep := discovery.Endpoint{Addr: fmt.Sprint("a", i), Zone: []string{"near", "far", "farther"}[i%3]}
		if i%10 == 0 {
			ep.Priority = 1 // 30 of them, which are few
		}
		eps = append(eps, ep)
	}
	for _, c := range []struct {
		subset Subset
		zone   string
		want   [2]int // of priority 0: near, and not
	}{
		{Subset{Size: 20, Client: "a"}, "near", [2]int{20, 20}},
		{Subset{Size: 20, Clients: 5}, "near", [2]int{20, 20}},
		{Subset{Size: 100, Client: "a"}, "near", [2]int{90, 100}},
		{Subset{}, "near", [2]int{90, 180}},
		{Subset{Size: -1}, "", [2]int{90, 180}},
	} {
		b := New(Config{Subset: c.subset, Locality: Locality{Zone: c.zone}})
		b.Update(eps)
		var got [2]int
		second := 0
		last := -1
		for _, n := range b.Set().Nodes() {
			at := slices.IndexFunc(eps, func(ep discovery.Endpoint) bool { return ep.Addr == n.Addr() })
			if at <= last {
				t.Errorf("%+v changes the order", c.subset)
			}
			last = at
			switch ep := eps[at]; {
			case ep.Priority == 1:
				second++
			case ep.Zone == "near":
				got[0]++
			default:
				got[1]++
			}
		}
		if got != c.want || second != 30 {
			t.Errorf("%+v near %q: endpoints = %v and %d, want %v and 30", c.subset, c.zone, got, second, c.want)
		}
	}
	b := New(Config{Subset: Subset{Size: 20, Client: "a"}}) // without a zone of its own
	b.Update(eps)
	if got := len(b.Set().Nodes()); got != 50 {
		t.Errorf("endpoints of a client without a zone = %d, want 20 and 30", got)
	}
}

func TestSubsetsTakeAnyNumbers(t *testing.T) {
	eps := endpoints(100)
	extremes := []int{math.MinInt, -1, 0, 1, 3, 99, 100, math.MaxInt}
	for _, size := range extremes {
		for _, index := range extremes {
			for _, clients := range extremes {
				s := Subset{Size: size, Index: index, Clients: clients}
				want := 100
				if size > 0 {
					want = min(size, 100)
				}
				if got := len(s.of(eps, "")); got != want {
					t.Errorf("%+v of 100 endpoints = %d, want %d", s, got, want)
				}
				if got := len(s.of(eps[:fewEndpoints], "")); got != fewEndpoints {
					t.Errorf("%+v of %d endpoints = %d, want all", s, fewEndpoints, got)
				}
			}
		}
	}
	if got := (&Subset{Size: 1}).of(nil, ""); len(got) != 0 {
		t.Errorf("subset of no endpoints has %d", len(got))
	}
}

// What a client knows of an endpoint that stays in its subset is kept, and it makes no nodes for others.
func TestBalancersKnowTheirSubsetOnly(t *testing.T) {
	b := New(Config{Subset: Subset{Size: 5, Client: "a"}})
	eps := endpoints(1000)
	b.Update(eps)
	before := b.Set().Nodes()
	if len(before) != 5 || len(b.nodes) != 5 {
		t.Fatalf("nodes = %d, of which the balancer knows %d, want 5", len(before), len(b.nodes))
	}
	eps = slices.DeleteFunc(eps, func(ep discovery.Endpoint) bool { return ep.Addr == before[2].Addr() })
	b.Update(eps)
	kept := 0
	for _, n := range b.Set().Nodes() {
		if slices.Contains(before, n) {
			kept++
		}
	}
	if kept != 4 || len(b.Set().Nodes()) != 5 {
		t.Errorf("nodes kept = %d of %d, want 4 of 5", kept, len(b.Set().Nodes()))
	}
}

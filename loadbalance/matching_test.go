package loadbalance

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/zerohop/zerohop/discovery"
)

// tagged returns endpoints with metadata written as "key=value,key=value".
func tagged(metas ...string) []discovery.Endpoint {
	eps := endpoints(len(metas))
	for i, list := range metas {
		eps[i].Meta = map[string]string{}
		for pair := range strings.SplitSeq(list, ",") {
			if k, v, ok := strings.Cut(pair, "="); ok {
				eps[i].Meta[k] = v
			}
		}
	}
	return eps
}

func TestMatchingReturnsNodesWithAllValues(t *testing.T) {
	b := New(Config{})
	b.Update(tagged("v=1,stage=prod", "v=2,stage=prod", "v=2,stage=canary", "v=2", "", "v=,stage=prod"))
	set := b.Set()
	for _, test := range []struct {
		keys, values string
		want         []int
	}{
		{"", "", []int{0, 1, 2, 3, 4, 5}},
		{"v", "2", []int{1, 2, 3}},
		{"v", "", []int{5}},
		{"v", "3", nil},
		{"w", "", nil},
		{"stage,v", "prod,2", []int{1}},
		{"stage,v", "canary,1", nil},
		{"stage,v", "prod,", []int{5}},
	} {
		split := func(s string) []string {
			if test.keys == "" {
				return nil
			}
			return strings.Split(s, ",")
		}
		keys, values := split(test.keys), split(test.values)
		sub := set.Matching(keys, values)
		if again := set.Matching(keys, values); again != sub {
			t.Errorf("Matching(%q, %q) returns another set the second time", keys, values)
		}
		var got []*Node
		if sub != nil {
			got = sub.Nodes()
		}
		if len(got) != len(test.want) {
			t.Errorf("Matching(%q, %q) has %d nodes, want %d", keys, values, len(got), len(test.want))
			continue
		}
		for i, at := range test.want {
			if got[i] != set.Nodes()[at] {
				t.Errorf("Matching(%q, %q)[%d] = %s, want %s", keys, values, i, got[i].Addr(), set.Nodes()[at].Addr())
			}
		}
	}
	if got := new(Set).Matching([]string{"v"}, []string{"1"}); got != nil {
		t.Errorf("Matching() of an empty set = %v, want nil", got)
	}
	// Values that would be alike if they were only put side by side.
	b.Update(tagged("a=1,b=11", "a=11,b=1", "a=,b=111"))
	for i, v := range [][]string{{"1", "11"}, {"11", "1"}, {"", "111"}} {
		if sub := b.Set().Matching([]string{"a", "b"}, v); sub == nil || len(sub.Nodes()) != 1 || sub.Nodes()[0] != b.Set().Nodes()[i] {
			t.Errorf("Matching(a, b = %q) is not endpoint %d alone", v, i)
		}
	}
}

func TestSubsetDecidesOnPanicAndPriorityByItself(t *testing.T) {
	b := newTestbed(t, 10, OutlierConfig{})
	eps := endpoints(10)
	for i := range eps {
		eps[i].Meta = map[string]string{"v": fmt.Sprint(min(i/3, 1))} // three of v 0
	}
	eps[2].Priority = 1
	b.Update(eps)
	key := []string{"v"}
	sub := b.Set().Matching(key, []string{"0"})
	for range 50 {
		if p, _ := sub.Pick(Info{Now: b.now}); p.Node() == b.node(2) {
			t.Fatal("Pick() = the node of the second priority, while the first one is well")
		}
	}
	b.fail(b.node(0), 5)
	b.fail(b.node(1), 5)
	b.want("after failures", 0, 1)
	for range 50 {
		p, err := sub.Pick(Info{Now: b.now})
		if err != nil || p.Node() != b.node(2) {
			t.Fatalf("Pick() with the first priority ejected = %v, %v, want that of the second", p.Node(), err)
		}
		p.Done(Report{Now: b.now})
	}
	b.fail(b.node(2), 5)
	b.want("after more failures", 0, 1, 2)
	if !sub.Panicking() || b.Set().Panicking() {
		t.Errorf("Panicking() = %v in the subset, %v in the set, want true, false", sub.Panicking(), b.Set().Panicking())
	}
	got := map[*Node]bool{}
	for range 100 {
		p, err := sub.Pick(Info{Now: b.now})
		if err != nil {
			t.Fatal(err)
		}
		got[p.Node()] = true
		p.Done(Report{Now: b.now})
	}
	for n := range got {
		if n.Endpoint().Meta["v"] != "0" {
			t.Errorf("Pick() = %s, which is not of the subset", n.Addr())
		}
	}
}

func TestSubsetsAreBounded(t *testing.T) {
	b := New(Config{})
	metas := make([]string, 10*maxSubsets)
	for i := range metas {
		metas[i] = fmt.Sprintf("id=%d,half=%d", i, i%2)
	}
	b.Update(tagged(metas...))
	set := b.Set()
	for round := range 2 {
		for i := range metas {
			sub := set.Matching([]string{"id"}, []string{fmt.Sprint(i)})
			if len(sub.Nodes()) != 1 || sub.Nodes()[0] != set.Nodes()[i] {
				t.Fatalf("round %d: Matching(id = %d) = %v", round, i, sub.Nodes())
			}
			if got := set.Matching([]string{"id"}, []string{fmt.Sprint("x", i)}); got != nil {
				t.Fatalf("Matching() of a value that no endpoint has = %v, want nil", got)
			}
		}
	}
	made := 0
	for _, p := range (*set.groupings.Load())[0].parts {
		if p.set.Load() != nil {
			made++
		}
	}
	if made != maxSubsets || len(set.subsets) != maxSubsets {
		t.Errorf("%d subsets are kept, %d listed, want %d", made, len(set.subsets), maxSubsets)
	}
	for i := range 3 * maxGroupings {
		keys := []string{"half", fmt.Sprint("k", i)}
		if got := set.Matching(keys, []string{"0", ""}); got != nil {
			t.Fatalf("Matching(%q) = %v, want nil", keys, got)
		}
	}
	if got := len(*set.groupings.Load()); got != maxGroupings {
		t.Errorf("%d groupings are kept, want %d", got, maxGroupings)
	}
}

func TestMatchingDoesNotAllocate(t *testing.T) {
	b := New(Config{})
	b.Update(tagged("v=1,stage=prod", "v=2,stage=prod", "v=2,stage=canary"))
	in := Info{Now: time.Now()}
	for _, test := range []struct{ keys, values []string }{
		{[]string{"v"}, []string{"2"}}, {[]string{"stage", "v"}, []string{"prod", "2"}},
	} {
		if got := testing.AllocsPerRun(1000, func() {
			p, _ := b.Set().Matching(test.keys, test.values).Pick(in)
			p.Done(Report{Now: in.Now})
		}); got != 0 {
			t.Errorf("%d keys: %v allocations, want none", len(test.keys), got)
		}
	}
}

func BenchmarkMatching(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		bal := New(Config{})
		eps := endpoints(n)
		for i := range eps {
			eps[i].Meta = map[string]string{"version": fmt.Sprint("v", i%5), "stage": "prod"}
		}
		bal.Update(eps)
		set := bal.Set()
		for _, keys := range [][]string{{"version"}, {"stage", "version"}} {
			values := []string{"prod", "v3"}[2-len(keys):]
			b.Run(fmt.Sprintf("n=%d/keys=%d", n, len(keys)), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					set.Matching(keys, values)
				}
			})
			b.Run(fmt.Sprintf("first/n=%d/keys=%d", n, len(keys)), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					set.groupings.Store(nil)
					set.subsets = nil
					set.Matching(keys, values)
				}
			})
		}
	}
}

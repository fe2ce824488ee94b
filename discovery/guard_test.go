package discovery

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// hosts returns the endpoints with numbers from up to but without to.
func hosts(from, to int) []Endpoint {
	var set []Endpoint
	for i := from; i < to; i++ {
		set = append(set, Endpoint{Addr: fmt.Sprintf("h%05d:1", i), Weight: 1})
	}
	return set
}

// both returns the endpoints of two sets without one in common.
func both(a, b []Endpoint) []Endpoint { return union(a, b) }

// said is an answer of a source, and what comes of it.
type said struct {
	at      time.Duration // when
	started time.Duration // when the watch began that it is of
	set     []Endpoint
	use     []Endpoint // what is in use then
	doubt   bool       // whether there is something new to doubt
}

func TestGuard(t *testing.T) {
	const (
		s     = time.Second
		grace = 5 * s
	)
	ten, four, none := hosts(0, 10), hosts(0, 4), hosts(0, 0)
	for _, tt := range []struct {
		name    string
		share   float64
		grace   time.Duration
		answers []said
	}{
		{name: "first answers are believed", answers: []said{{set: none, use: none}, {at: 1, set: ten, use: ten}}},
		{name: "half of them may leave, one after the other too", answers: []said{
			{set: ten, use: ten}, {at: 1, set: hosts(5, 10), use: hosts(5, 10)},
			{at: 2, set: hosts(7, 10), use: hosts(7, 10)}, {at: 3, set: hosts(9, 10), use: hosts(9, 10)},
		}},
		{name: "most are held until a late watch agrees", answers: []said{
			{set: ten, use: ten}, {at: 1 * s, set: four, use: ten, doubt: true},
			{at: 2 * s, set: four, use: ten},
			{at: 6*s - 1, started: 6*s - 1, set: four, use: ten},
			{at: 6 * s, started: 6 * s, set: four, use: four},
		}},
		{name: "none is held until a late watch agrees", answers: []said{
			{set: hosts(0, 1), use: hosts(0, 1)}, {at: 1 * s, set: none, use: hosts(0, 1), doubt: true},
			{at: 6 * s, started: 6 * s, set: none, use: none},
		}},
		{name: "additions, changes and single removals go on meanwhile", answers: []said{
			{set: ten, use: ten}, {at: 1 * s, set: hosts(6, 20), use: hosts(0, 20), doubt: true},
			{at: 2 * s, set: hosts(7, 21), use: both(hosts(0, 6), hosts(7, 21))},
			{at: 6 * s, started: 6 * s, set: hosts(7, 21), use: hosts(7, 21)},
		}},
		{name: "those that return are not held, nor few that do not", answers: []said{
			{set: ten, use: ten}, {at: 1 * s, set: four, use: ten, doubt: true}, {at: 2 * s, set: hosts(0, 8), use: hosts(0, 8)},
			{at: 3 * s, set: hosts(0, 2), use: hosts(0, 8), doubt: true}, // anew
			{at: 7 * s, started: 7 * s, set: hosts(0, 2), use: hosts(0, 8)},
			{at: 8 * s, started: 8 * s, set: hosts(0, 2), use: hosts(0, 2)},
		}},
		{name: "others of the few that are left", answers: []said{
			{set: four, use: four}, {at: 1, set: hosts(0, 1), use: four, doubt: true}, {at: 2, set: hosts(1, 2), use: hosts(1, 4)},
		}},
		{name: "of three any but the last may leave", answers: []said{
			{set: hosts(0, 3), use: hosts(0, 3)}, {at: 1, set: hosts(3, 6), use: hosts(3, 6)}, {at: 2, set: hosts(3, 4), use: hosts(3, 4)},
			{at: 3, set: none, use: hosts(3, 4), doubt: true}, {at: 4, set: hosts(8, 9), use: hosts(8, 9)},
		}},
		{name: "all replaced by others", answers: []said{
			{set: four, use: four}, {at: 1, set: hosts(4, 8), use: hosts(0, 8), doubt: true},
			{at: 6 * s, started: 6 * s, set: hosts(4, 8), use: hosts(4, 8)},
		}},
		{name: "a late watch lacks even more", answers: []said{
			{set: ten, use: ten}, {at: 1 * s, set: four, use: ten, doubt: true},
			{at: 6 * s, started: 6 * s, set: none, use: four, doubt: true},
			{at: 11 * s, started: 11 * s, set: none, use: none},
		}},
		{name: "more are missing later", answers: []said{
			{set: ten, use: ten}, {at: 1 * s, set: four, use: ten, doubt: true}, {at: 4 * s, set: none, use: ten, doubt: true},
			{at: 6 * s, started: 6 * s, set: none, use: ten}, {at: 9 * s, started: 9 * s, set: none, use: none},
		}},
		{name: "a late watch begins with what was right before", answers: []said{
			{set: ten, use: ten}, {at: 1 * s, set: four, use: ten, doubt: true},
			{at: 6 * s, started: 6 * s, set: ten, use: ten}, {at: 7 * s, started: 6 * s, set: four, use: four},
		}},
		{name: "a late watch says that all is well, until later", answers: []said{
			{set: ten, use: ten}, {at: 1 * s, set: none, use: ten, doubt: true},
			{at: 6 * s, started: 6 * s, set: ten, use: ten}, {at: 11 * s, started: 6 * s, set: none, use: ten, doubt: true},
		}},
		{name: "two halves in turn", answers: []said{
			{set: ten, use: ten}, {at: 1 * s, set: four, use: ten, doubt: true},
			{at: 2 * s, set: hosts(4, 10), use: ten, doubt: true}, {at: 3 * s, set: four, use: ten}, {at: 4 * s, set: hosts(4, 10), use: ten},
			{at: 7 * s, started: 7 * s, set: four, use: four}, {at: 8 * s, started: 7 * s, set: hosts(4, 10), use: hosts(4, 10)},
			{at: 13 * s, started: 7 * s, set: four, use: ten, doubt: true},
		}},
		{name: "what comes and goes during a doubt is not held", answers: []said{
			{set: ten, use: ten}, {at: 1, set: hosts(10, 20), use: hosts(0, 20), doubt: true},
			{at: 2, set: hosts(20, 30), use: both(ten, hosts(20, 30))}, {at: 3, set: hosts(30, 40), use: both(ten, hosts(30, 40))},
		}},
		{name: "a share of its own", share: 0.1, answers: []said{
			{set: ten, use: ten}, {at: 1, set: hosts(1, 10), use: hosts(1, 10)}, {at: 2, set: hosts(2, 10), use: hosts(2, 10)},
			{at: 3, set: hosts(4, 10), use: hosts(2, 10), doubt: true},
		}},
		{name: "any share", share: 1, answers: []said{
			{set: ten, use: ten}, {at: 1, set: hosts(20, 21), use: hosts(20, 21)}, {at: 2, set: none, use: hosts(20, 21), doubt: true},
		}},
		{name: "all is believed", grace: -1, answers: []said{
			{set: ten, use: ten}, {at: 1, set: hosts(0, 1), use: hosts(0, 1)}, {at: 2, set: none, use: none}, {at: 3, set: ten, use: ten},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := guard{grace: grace, share: 0.5}
			if tt.share > 0 {
				g.share = tt.share
			}
			if tt.grace != 0 {
				g.grace = tt.grace
			}
			zero := time.Now()
			for i, a := range tt.answers {
				doubt := g.answer(zero.Add(a.at), zero.Add(a.started), a.set)
				if doubt != a.doubt {
					t.Errorf("answer %d: something to doubt: %v, want %v", i, doubt, a.doubt)
				}
				if got, want := addrs(g.set()), addrs(a.use); got != want {
					t.Fatalf("answer %d: in use\n%s, want\n%s", i, got, want)
				}
			}
		})
	}
}

func TestGuardBeginsADoubtAnewWhenAnAnswerIsRejected(t *testing.T) {
	g, zero := guard{grace: 5 * time.Second, share: 0.5}, time.Now()
	g.answer(zero, zero, hosts(0, 4))
	if g.reject(zero) {
		t.Error("an answer of no use begins a doubt")
	}
	g.answer(zero, zero, nil)
	if later := zero.Add(time.Second); !g.reject(later) || !g.recheck().Equal(later.Add(g.grace)) {
		t.Errorf("the source is asked at %v, want %v", g.recheck(), later.Add(g.grace))
	}
}

// What a guard uses is what the source says and, beside it, what it said when it was last believed; nothing is lost that a late
// watch has not failed to name.
func TestGuardHoldsNoMoreAndNoLessThanItMust(t *testing.T) {
	const steps = 20_000
	r := rand.New(rand.NewPCG(6, 0))
	g := guard{grace: 5 * time.Second, share: 0.5}
	start := time.Now()
	now, started := start, start
	var used []Endpoint
	ever := map[string]bool{}
	for i := range steps {
		now = now.Add(time.Duration(r.Int64N(int64(3 * time.Second))))
		if r.IntN(3) == 0 || !g.doubt.since.IsZero() && now.After(g.recheck()) && r.IntN(2) == 0 {
			started = now
		}
		var set []Endpoint
		switch r.IntN(4) {
		case 0:
			from := r.IntN(20)
			set = hosts(from, from+r.IntN(20))
		case 1: // a single one less than in use
			set = slices.Clone(used)
			if len(set) > 0 {
				at := r.IntN(len(set))
				set = slices.Delete(set, at, at+1)
			}
		case 2:
			set = hosts(0, 20)
		}
		doubted := g.doubting()
		early := doubted && g.early(started)
		before := g.said
		g.answer(now, started, set)
		next := g.set()
		if !slices.IsSortedFunc(next, func(a, b Endpoint) int {
			if a.Addr < b.Addr {
				return -1
			}
			return 1
		}) {
			t.Fatalf("step %d: set is not sorted, or has doubles: %s", i, addrs(next))
		}
		if missing := without(set, next); len(missing) > 0 {
			t.Fatalf("step %d: %s is not in use although the source lists it", i, addrs(missing))
		}
		for _, e := range set {
			ever[e.Addr] = true
		}
		for _, e := range next {
			if !ever[e.Addr] {
				t.Fatalf("step %d: %s is in use although the source never named it", i, e.Addr)
			}
		}
		if len(next) == 0 && len(used) > 0 && (!doubted || early) && g.doubt.asked.IsZero() {
			t.Fatalf("step %d: all are gone without a late watch", i)
		}
		if len(before) > 1 && len(without(before, set)) == 1 && len(set) > 0 && len(without(without(before, set), next)) == 0 {
			t.Fatalf("step %d: a single removal is held", i)
		}
		used = next
	}
}

func BenchmarkGuard(b *testing.B) {
	g, now := guard{grace: 5 * time.Second, share: 0.5}, time.Now()
	sets := [][]Endpoint{hosts(0, maxEndpoints), hosts(0, maxEndpoints-1)}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		g.answer(now, now, sets[i%2])
		g.set()
	}
}

package loadbalance

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
)

// twins are two balancers with the same past.
type twins struct {
	b     [2]*Balancer
	words [2]func() uint64
	drawn []uint64 // by the first one's picks
	again []uint64 // for the second one's
	under [2][]Pick
}

// newTwins makes them with random set-up, endpoints and state.
func newTwins(r *rand.Rand, build Builder, now *time.Time) *twins {
	w := &twins{}
	c := Config{
		Builder: build,
		Rand:    nil,
	}
	chosen := func() bool { return r.IntN(2) == 0 }
	if chosen() {
		c.Breaker = &resilience.BreakerConfig{Consecutive: 2, OpenFor: time.Second, Seed: 1}
	}
	if chosen() {
		c.Locality.Zone = "a"
	}
	if chosen() {
		c.Outlier = &OutlierConfig{Consecutive: 2}
	}
	if chosen() {
		c.SlowStart = &SlowStart{}
	}
	if chosen() {
		c.Limit = &LimitConfig{Max: 3}
	}
	if chosen() {
		c.Subset = Subset{Size: 5, Client: "me"}
	}
	eps := endpoints(1+r.IntN([]int{10, 40, 100}[r.IntN(3)]), 1, 1+uint32(r.IntN(3)), 1)
	for i := range eps {
		eps[i].Zone = []string{"a", "b", "c"}[r.IntN(3)]
		eps[i].Priority = uint8(r.IntN(20) / 15)
		eps[i].Meta = map[string]string{"stage": fmt.Sprint(r.IntN(2))}
		if r.IntN(12) == 0 {
			eps[i].Health = 1
		}
	}
	slices.SortFunc(eps, compareAddr)
	for k := range w.b {
		word := uint64(7)
		own := func() uint64 { word = next(word); return mix(word) }
		w.words[k] = own
		c.Rand = func() uint64 { return w.words[k]() }
		w.b[k] = New(c)
		w.b[k].Update(eps)
	}
	// Some history: failures, slow and fast answers, reports, and attempts in flight.
	for range r.IntN(150) {
		*now = now.Add(time.Duration(r.IntN(20)) * time.Millisecond)
		in := Info{Now: *now, Hash: uint64(r.IntN(3)) * golden}
		bad, keep, took, other := r.IntN(3) == 0, r.IntN(5) == 0, time.Duration(r.IntN(100))*time.Millisecond, r.IntN(len(eps))
		load := Load{InFlight: r.IntN(20), Latency: took, Utilization: .5, Rate: float64(1 + r.IntN(100))}
		for k, b := range w.b {
			p, err := b.Pick(in)
			if nodes := b.Set().Nodes(); other < len(nodes) {
				nodes[other].ReportLoad(*now, load)
			}
			if err != nil {
				continue
			}
			if keep {
				w.under[k] = append(w.under[k], p)
				continue
			}
			rep := Report{Now: *now, Latency: took, Outcome: resilience.Success}
			if bad {
				rep.Outcome = resilience.Failure
			}
			p.Done(rep)
		}
		if r.IntN(60) == 0 {
			for _, b := range w.b {
				b.TakeOut(eps[other].Addr, now.Add(time.Minute), bad)
			}
		}
		if r.IntN(15) == 0 {
			failing, addr := r.IntN(2) == 0, eps[other].Addr
			for _, b := range w.b {
				b.SetFailing(addr, failing, *now)
			}
		}
	}
	return w
}

// sets returns the same view of both.
func (w *twins) sets(r *rand.Rand) (s [2]*Set) {
	kind, seed := r.IntN(5), r.Uint64()
	for k, b := range w.b {
		s[k] = b.Set()
		switch kind {
		case 1:
			if v := s[k].Matching([]string{"stage"}, []string{"1"}); v != nil {
				s[k] = v
			}
		case 2:
			if v := s[k].Lane("stage", "0", ""); v != nil {
				s[k] = v
			}
		case 3:
			s[k] = s[k].By(&Algorithm{Builder: LeastRequest})
		case 4:
			var connected []*Node
			for i, n := range s[k].Nodes() {
				if mix(seed+uint64(i))&3 > 0 {
					connected = append(connected, n)
				}
			}
			s[k] = b.Reachable(connected, nil)
		}
	}
	return s
}

var recordable = func() map[string]Builder {
	m := map[string]Builder{
		"Prequal": PrequalConfig{MaxAge: time.Minute}.Prequal, "latency only": PrequalConfig{Quantile: 1, MaxAge: time.Minute}.Prequal,
		"load only":             PrequalConfig{Quantile: -1, MaxAge: time.Minute}.Prequal,
		"UtilizationRoundRobin": UtilizationConfig{Blackout: -1}.RoundRobin,
		"five choices":          LeastRequestConfig{Choices: 5}.LeastRequest,
		"replacement":           LeastRequestConfig{Choices: 3, Replacement: true}.LeastRequest,
		"own":                   func(nodes []*Node) Picker { return own{nodes} },
		"RingHash":              RingHash, "Rendezvous": Rendezvous, "Maglev": HashConfig{Table: 251}.Maglev,
	}
	for _, p := range policies {
		m[p.name] = p.build
	}
	return m
}()

// own is a picker of the user's.
type own struct{ nodes []*Node }

func (o own) Pick(in Info) *Node {
	for _, n := range o.nodes {
		if in.Usable(n) {
			return n
		}
	}
	return o.nodes[0]
}

// TestChoiceTellsWhatHappened records picks in random states of random sets, and makes each again without a record from the
// random words of the record: it comes to the same node, and the record names it, counts every endpoint once, and names no
// endpoint that would have been better.
func TestChoiceTellsWhatHappened(t *testing.T) {
	long(t)
	seen := map[How]int{}
	removed := map[Removal]int{}
	for name, build := range recordable {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for seed := range uint64(150) {
					r := rand.New(rand.NewPCG(seed, 1))
					now := time.Now()
					w := newTwins(r, build, &now)
					w.pick(t, fmt.Sprint("seed ", seed), r, now, seen, removed)
				}
			})
		})
	}
	for h := HowCompared; h <= HowLastResort; h++ {
		if seen[h] == 0 {
			t.Errorf("no pick came about by rule %d of %v", h, seen)
		}
	}
	for x := range Removals {
		if removed[x] == 0 {
			t.Errorf("no endpoint was out of the question for reason %d of %v", x, removed)
		}
	}
}

func (w *twins) pick(t *testing.T, at string, r *rand.Rand, now time.Time, seen map[How]int, removed map[Removal]int) {
	t.Helper()
	for range 12 {
		now = now.Add(time.Duration(r.IntN(400)) * time.Millisecond)
		s := w.sets(r)
		if len(s[0].Nodes()) == 0 {
			continue
		}
		what, at0 := r.Uint32(), r.IntN(len(s[0].Nodes()))
		tried := int(what>>4&15) * len(s[0].Nodes()) / 20
		info := func(k int) Info {
			in := Info{Now: now, Hash: uint64(what&3) * golden, Sound: what&4 > 0, Other: what&8 > 0 && tried > 0, Avoid: s[k].Nodes()[:tried]}
			if what>>8&7 == 0 {
				in.Node, in.Strict = NodeKey(s[k].Nodes()[at0].Addr()), what>>11&1 == 0
			}
			return in
		}
		var c Choice
		var drawn []uint64
		base := w.words[0]
		w.words[0] = func() uint64 { x := base(); drawn = append(drawn, x); return x }
		in := info(0)
		in.Choice = &c
		p, err := s[0].Pick(in)
		w.words[0] = base

		// The pick made again.
		used := 0
		own := w.words[1]
		w.words[1] = func() uint64 {
			used++
			switch {
			case used == 1 && c.Random != 0:
				return c.Random
			case used <= 2 && c.Draw != 0:
				return c.Draw
			}
			t.Errorf("%s: the pick took more random words than %x, and was recorded with %x and %x", at, drawn, c.Random, c.Draw)
			return own()
		}
		q, err2 := s[1].Pick(info(1))
		w.words[1] = own
		for range used { // both go on alike
			own()
		}
		for ; used < len(drawn); used++ {
			own()
		}
		if (err == nil) != (err2 == nil) || err == nil && p.Node().Addr() != q.Node().Addr() {
			t.Fatalf("%s: Pick() = %v, %v, and again by the random words of the record %v, %v; %+v", at, addr(p), err, addr(q), err2, c)
		}
		seen[c.How]++
		for x, n := range c.Removed {
			if n > 0 {
				removed[Removal(x)]++
			}
		}
		for _, x := range c.Compared[:c.N] {
			if x.Removed > UnderPenalty {
				removed[x.Removed]++
			}
		}
		c.check(t, at, w.b[0], p, err, false)
		if err == nil {
			w.look(t, at, s[0], info(0), p, &c)
			rep := Report{Now: now, Outcome: []resilience.Outcome{resilience.Success, resilience.Failure}[what>>12&1], Latency: time.Millisecond}
			p.Done(rep)
			q.Done(rep)
		}
	}
}

func addr(p Pick) string {
	if p.Node() == nil {
		return "none"
	}
	return p.Node().Addr()
}

// check holds a record against what came of the pick.
func (c *Choice) check(t *testing.T, at string, b *Balancer, p Pick, err error, late bool) {
	t.Helper()
	var sum int32
	for x, n := range c.Removed {
		if sum += n; n < 0 || Removal(x) > UnderPenalty && n != 0 {
			t.Fatalf("%s: %d endpoints out of the question for reason %d", at, n, x)
		}
	}
	if want := int32(len(b.Set().Nodes()) + len(b.others)); sum != c.Nodes || c.Nodes != want {
		t.Fatalf("%s: the record has %d endpoints and reasons for %d of %d: %+v", at, c.Nodes, sum, want, c)
	}
	if (c.How == HowNone) != (err != nil) && !(err != nil && c.N > 0) {
		t.Fatalf("%s: How = %d of a pick with the error %v", at, c.How, err)
	}
	picked := -1
	for i, x := range c.Compared[:c.N] {
		if x.Picked && picked >= 0 || x.Picked && (err != nil || x.Addr != p.Node().Addr()) {
			t.Fatalf("%s: %s is marked as picked, and %s was (%v)", at, x.Addr, addr(p), err)
		}
		if x.Picked {
			picked = i
		}
		if slices.ContainsFunc(c.Compared[:i], func(y Candidate) bool { return x.Addr == y.Addr }) {
			t.Fatalf("%s: %s was recorded twice", at, x.Addr)
		}
	}
	if err != nil {
		return
	}
	if picked < 0 {
		t.Fatalf("%s: %s is not in the record: %+v", at, addr(p), c)
	}
	if c.How == HowCompared && !late {
		won := c.Compared[picked]
		for _, x := range c.Compared[:c.N] {
			if x.Removed == NotRemoved && (won.Removed != NotRemoved || x.Score < won.Score) {
				t.Fatalf("%s: %s was picked, and %s was better: %+v", at, won.Addr, x.Addr, c)
			}
		}
	}
}

// look looks at the pick after the fact.
func (w *twins) look(t *testing.T, at string, s *Set, in Info, p Pick, c *Choice) {
	t.Helper()
	var late Choice
	in.Random = 0
	s.Look(in, p, true, &late)
	late.check(t, at, w.b[0], p, nil, true)
	if late.Nodes != c.Nodes || late.Levels != c.Levels {
		t.Fatalf("%s: %d endpoints and %d levels by a late look, %d and %d by the record", at, late.Nodes, late.Levels, c.Nodes, c.Levels)
	}
}

// Who is picked while nothing is in flight has the least score afterwards, too: what the attempt itself puts on it is left out, be it over
// or not.
func TestLateLookLeavesOutTheAttempt(t *testing.T) {
	for _, builder := range []Builder{PeakEWMA, LeastRequest} {
		for _, open := range []bool{true, false} {
			b := New(Config{Builder: builder})
			b.Update([]discovery.Endpoint{{Addr: "a:1"}, {Addr: "b:1"}})
			for range 10 {
				in := Info{Now: time.Now()}
				p, err := b.Set().Pick(in)
				if err != nil {
					t.Fatal(err)
				}
				if !open {
					p.Done(Report{Now: in.Now, Outcome: resilience.Neutral})
				}
				var c Choice
				b.Set().Look(in, p, open, &c)
				if c.How != HowCompared || c.N != 2 || c.Compared[0].Score != c.Compared[1].Score || c.Compared[0].InFlight+c.Compared[1].InFlight != 0 {
					t.Errorf("open %v: %+v", open, c)
				}
				if open {
					p.Done(Report{Now: in.Now, Outcome: resilience.Neutral})
				}
			}
		}
	}
}

func compareAddr(x, y discovery.Endpoint) int { return cmp.Compare(x.Addr, y.Addr) }

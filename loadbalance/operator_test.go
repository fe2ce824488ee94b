package loadbalance

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
)

// counts returns how many of so many picks each address gets, bound to a node if key is not 0.
func counts(t *testing.T, b *Balancer, picks int, key uint64) map[string]int {
	t.Helper()
	got := map[string]int{}
	for range picks {
		p, err := b.Pick(Info{Now: time.Now(), Node: key})
		if err != nil {
			t.Fatal(err)
		}
		got[p.Node().Addr()]++
		p.Done(Report{Now: time.Now(), Outcome: resilience.Success, Latency: time.Millisecond})
	}
	return got
}

func TestTakeOutKeepsCallsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, p := range slices.Concat(policies) {
			b := New(Config{Builder: p.build, Outlier: &OutlierConfig{}})
			eps := endpoints(4)
			b.Update(eps)
			time.Sleep(time.Second)
			bad := eps[1].Addr
			if b.TakeOut("10.9.9.9:80", time.Now().Add(time.Minute), false) || b.TakeOut(bad, time.Now(), false) || b.PutBack(bad) {
				t.Errorf("%s: an address that is not in the set, or a time that has passed, does something", p.name)
			}
			until := time.Now().Add(time.Minute)
			if !b.TakeOut(bad, until, false) {
				t.Fatalf("%s: TakeOut() = false", p.name)
			}
			n := b.Set().Find(NodeKey(bad))
			if n.out.Load() != byHand {
				t.Errorf("%s: %s is not taken out", p.name, bad)
			}
			if got := counts(t, b, 200, NodeKey(bad)); got[bad] != 0 || len(got) != 3 {
				t.Errorf("%s: picks %v, want none of %s", p.name, got, bad)
			}
			b.Update(eps[2:]) // it leaves
			time.Sleep(30 * time.Second)
			b.Update(eps) // and comes back
			if got := counts(t, b, 200, 0); got[bad] != 0 || len(got) != 3 {
				t.Errorf("%s: picks %v after updates, want none of %s", p.name, got, bad)
			}
			time.Sleep(30 * time.Second)
			if got := counts(t, b, 400, 0); got[bad] == 0 {
				t.Errorf("%s: picks %v after the time is up, want some of %s", p.name, got, bad)
			}
			if b.Set().Find(NodeKey(bad)).out.Load() <= byHand || b.PutBack(bad) {
				t.Errorf("%s: the node is still taken out", p.name)
			}
		}
	})
}

func TestPutBackEndsTakeOut(t *testing.T) {
	b := New(Config{Builder: Random})
	eps := endpoints(3)
	b.Update(eps)
	b.TakeOut(eps[0].Addr, time.Now().Add(time.Hour), false)
	if !b.PutBack(eps[0].Addr) || b.PutBack(eps[0].Addr) {
		t.Error("PutBack() is not true once")
	}
	if got := counts(t, b, 200, 0); len(got) != 3 {
		t.Errorf("picks %v, want some of each", got)
	}
}

func TestTakeOutDrains(t *testing.T) {
	b := New(Config{Builder: Random})
	eps := endpoints(3)
	b.Update(eps)
	key := NodeKey(eps[0].Addr)
	b.TakeOut(eps[0].Addr, time.Now().Add(time.Hour), true)
	if got := counts(t, b, 50, key); got[eps[0].Addr] != 50 {
		t.Errorf("calls bound to an endpoint that drains went to %v", got)
	}
	if got := counts(t, b, 50, 0); got[eps[0].Addr] != 0 {
		t.Errorf("other calls went to %v", got)
	}
	b.TakeOut(eps[0].Addr, time.Now().Add(time.Hour), false)
	if _, err := b.Pick(Info{Now: time.Now(), Node: key, Strict: true}); !errors.Is(err, ErrNoNode) {
		t.Errorf("Pick() bound to an endpoint that was taken out = %v, want ErrNoNode", err)
	}
}

// TestTakeOutLeavesOne takes out all it can: one is left, and when that one leaves the set calls go on.
func TestTakeOutLeavesOne(t *testing.T) {
	for _, p := range policies {
		b := New(Config{Builder: p.build, Locality: Locality{Zone: "a"}})
		eps := endpoints(4)
		eps[3].Priority, eps[2].Zone = 1, "a"
		b.Update(eps)
		for i, want := range []bool{true, true, true, false} {
			if got := b.TakeOut(eps[i].Addr, time.Now().Add(time.Hour), false); got != want {
				t.Errorf("%s: TakeOut() of number %d = %v", p.name, i, got)
			}
		}
		if got := counts(t, b, 50, 0); got[eps[3].Addr] != 50 {
			t.Errorf("%s: picks %v, want all of the one that is left", p.name, got)
		}
		// Not even another attempt of a call that failed there goes to one of the others.
		q, err := b.Pick(Info{Now: time.Now(), Avoid: []*Node{b.Set().Find(NodeKey(eps[3].Addr))}})
		if err != nil || q.Node().Addr() != eps[3].Addr {
			t.Errorf("%s: Pick() of a further attempt = %v, %v, want the one that is left", p.name, addr(q), err)
		}
		b.Update(eps[:3])
		if got := counts(t, b, 50, 0); len(got) == 0 {
			t.Errorf("%s: no picks", p.name)
		}
	}
}

func TestTakeOutAndChecksGoTogether(t *testing.T) {
	b := New(Config{Builder: Random, Panic: -1})
	eps := endpoints(3)
	b.Update(eps)
	a := eps[0].Addr
	for _, fails := range []bool{true, false} {
		b.SetFailing(a, !fails, time.Now())
		b.TakeOut(a, time.Now().Add(time.Hour), false)
		if !b.SetFailing(a, fails, time.Now()) || b.SetFailing(a, fails, time.Now()) {
			t.Error("SetFailing() is not true for a change only while the endpoint is taken out")
		}
		if n := b.Set().Find(NodeKey(a)); n.FailsChecks() {
			t.Error("checks return or eject what an operator took out")
		}
		b.PutBack(a)
		if n := b.Set().Find(NodeKey(a)); n.FailsChecks() != fails || n.Available(time.Now()) == fails {
			t.Errorf("fails checks = %v after all, want %v", n.FailsChecks(), fails)
		}
	}
}

// TestTakeOutMakesNoPanic takes out most of a service: the failing checks of one of the others count.
func TestTakeOutMakesNoPanic(t *testing.T) {
	b := New(Config{Builder: Random})
	eps := endpoints(10)
	b.Update(eps)
	for i := range 6 {
		b.TakeOut(eps[i].Addr, time.Now().Add(time.Hour), false)
	}
	b.SetFailing(eps[9].Addr, true, time.Now())
	if b.Set().Panicking() {
		t.Error("panics")
	}
	if got := counts(t, b, 100, 0); len(got) != 3 || got[eps[9].Addr] != 0 {
		t.Errorf("picks %v, want some of three", got)
	}
	b.SetFailing(eps[8].Addr, true, time.Now())
	b.SetFailing(eps[7].Addr, true, time.Now())
	if got := counts(t, b, 200, 0); !b.Set().Panicking() || len(got) != 4 {
		t.Errorf("picks %v in panic, want some of all that nobody took out", got)
	}
}

// TestPicksAreCounted counts those of nodes in a random run, and tells them from what is in flight.
func TestPicksAreCounted(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, c := range []Config{{}, {Limit: &LimitConfig{Max: 3}}, {Breaker: &resilience.BreakerConfig{Consecutive: 2}}} {
		b := New(c)
		b.Update(endpoints(5))
		want, flying := map[*Node]uint64{}, map[*Node]int{}
		var under []Pick
		for range 5000 {
			if len(under) > 0 && r.IntN(2) == 0 {
				i := r.IntN(len(under))
				flying[under[i].Node()]--
				under[i].Done(Report{Now: time.Now(), Outcome: resilience.Outcome(1 + r.IntN(4))})
				under = slices.Delete(under, i, i+1)
			} else if p, err := b.Pick(Info{Now: time.Now()}); err == nil {
				want[p.Node()]++
				flying[p.Node()]++
				under = append(under, p)
			}
		}
		for _, n := range b.Set().Nodes() {
			if n.Picks() != want[n] || n.InFlight() != flying[n] {
				t.Errorf("%d picks and %d in flight, want %d and %d", n.Picks(), n.InFlight(), want[n], flying[n])
			}
		}
	}
}

// TestSharesAreWhatRandomPicksGet compares Share with the picks of Random, which goes by nothing else.
func TestSharesAreWhatRandomPicksGet(t *testing.T) {
	b := New(Config{Builder: Random, Locality: Locality{Zone: "a"}, OverProvisioning: 1, Rand: rand.New(rand.NewPCG(3, 4)).Uint64})
	eps := endpoints(12, 1, 2, 5)
	for i := range eps {
		eps[i].Zone, eps[i].Priority = []string{"a", "b"}[i%2], uint8(i/8)
	}
	eps[11].Health = discovery.Draining
	b.Update(eps)
	check := func(what string) {
		t.Helper()
		const picks = 40_000
		s, sum := b.Set(), 0.0
		before := map[*Node]uint64{}
		for _, n := range s.Nodes() {
			before[n] = n.Picks()
		}
		for range picks {
			p, err := b.Pick(Info{Now: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			p.Done(Report{Now: time.Now()})
		}
		for _, n := range s.Nodes() {
			share := s.Share(n)
			sum += share
			// Five standard deviations: one run in a million is farther off, and the seed is fixed.
			if got := float64(n.Picks()-before[n]) / picks; math.Abs(got-share) > 5*math.Sqrt(share*(1-share)/picks) {
				t.Errorf("%s: %s gets %.4f of the picks, Share() = %.4f", what, n.Addr(), got, share)
			}
		}
		if math.Abs(sum-1) > 1e-6 {
			t.Errorf("%s: shares are %v together", what, sum)
		}
	}
	check("all in service")
	b.SetFailing(eps[0].Addr, true, time.Now())
	check("one fails its checks")
	b.TakeOut(eps[2].Addr, time.Now().Add(time.Hour), true)
	check("one is taken out")
	b.Update(eps[1:8])
	check("after an update")
	if got := b.Set().Share(&Node{}); got != 0 {
		t.Errorf("Share() of a node of another balancer = %v, want 0", got)
	}
}

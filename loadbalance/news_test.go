package loadbalance

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// watched is a balancer whose events are kept.
type watched struct {
	*Balancer
	t      *testing.T
	events []Event
}

func newWatched(t *testing.T, c Config, n int) *watched {
	w := &watched{t: t}
	c.Observe = func(e Event) { w.events = append(w.events, e) }
	if c.Builder == nil {
		c.Builder = Random
	}
	w.Balancer = New(c)
	w.Update(endpoints(n))
	return w
}

// end makes attempts on a node and ends them a millisecond later.
func (w *watched) end(i, times int, r Report) {
	for range times {
		p, err := w.Pick(Info{Now: time.Now(), Node: NodeKey(endpoints(i + 1)[i].Addr), Strict: true})
		if err != nil {
			w.t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
		r.Now = time.Now()
		p.Done(r)
	}
}

// told returns the events since it was last called, in short.
func (w *watched) told() string {
	var list []string
	for _, e := range w.events {
		list = append(list, fmt.Sprintf("%d/%d %s %g>%.3g %d/%d", e.Kind, e.Cause, strings.TrimPrefix(e.Addr, "10.0.0."), e.Value, e.Bound, e.Out, e.Nodes))
	}
	w.events = nil
	return strings.Join(list, ", ")
}

func (w *watched) want(what, want string) {
	w.t.Helper()
	if got := w.told(); got != want {
		w.t.Errorf("%s: told of %q, want %q", what, got, want)
	}
}

var (
	success = Report{Outcome: resilience.Success, Latency: time.Millisecond}
	failure = Report{Outcome: resilience.Failure, Latency: time.Millisecond}
)

func TestObserveTellsOfEjections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t, Config{Outlier: &OutlierConfig{Jitter: -1, FailureRatio: -1}, Panic: -1}, 4)
		w.end(0, 5, failure)
		until := w.events[0].Until
		if got := until.Sub(w.events[0].Time); got != time.Second {
			t.Errorf("ejected for %v, want 1s", got)
		}
		w.want("five failures", "1/1 0:80 5>5 1/4")
		time.Sleep(time.Second)
		w.end(0, 1, failure)
		w.want("the probe fails", "1/6 0:80 2>0 1/4")
		time.Sleep(2 * time.Second)
		w.end(0, 1, success)
		w.want("the probe succeeds", "3/0 0:80 0>0 0/4")
		w.end(1, 5, failure)
		w.end(2, 5, failure)
		w.end(3, 5, failure)
		w.want("three of four fail", "1/1 1:80 5>5 1/4, 1/1 2:80 5>5 2/4, 2/1 3:80 5>5 2/4")
		w.EndEjection(endpoints(2)[1].Addr, time.Now())
		w.want("an ejection is ended", "3/0 1:80 0>0 1/4")
		w.Configure(Config{Builder: Random, Observe: func(e Event) { w.events = append(w.events, e) }})
		w.want("nothing is ejected any more", "3/0 2:80 0>0 0/4")
		w.Configure(Config{Builder: Random})
		w.TakeOut(endpoints(1)[0].Addr, time.Now().Add(time.Hour), false)
		w.want("nobody wants to know any more", "")
	})
}

func TestObserveTellsWhyNodesAreEjected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t, Config{Outlier: &OutlierConfig{Consecutive: -1, MinResponses: 10}}, 4)
		for range 5 {
			w.end(0, 1, success)
			w.end(0, 1, failure)
		}
		w.want("half of ten", "1/2 0:80 0.5>0.2 1/4")

		w = newWatched(t, Config{Outlier: &OutlierConfig{FailureRatio: -1}}, 4)
		for range 5 {
			w.end(1, 1, Report{Outcome: resilience.Neutral, Overdue: true, Latency: time.Second})
			time.Sleep(time.Second)
		}
		w.want("hung", "1/5 1:80 5>5 1/4")

		w = newWatched(t, Config{Outlier: &OutlierConfig{Latency: 3, MinHosts: 3}}, 4)
		for i, latency := range []time.Duration{10, 10, 10, 200} {
			w.end(i, 20, Report{Outcome: resilience.Success, Latency: latency * time.Millisecond})
		}
		time.Sleep(time.Second) // what is usual is known once a slot
		w.end(0, 1, success)
		w.end(3, 1, Report{Outcome: resilience.Success, Latency: 200 * time.Millisecond})
		if e := w.events[0]; len(w.events) != 1 || e.Kind != Ejected || e.Cause != SlowResponses || e.Value < .19 || e.Value > .21 || e.Bound > .031 {
			t.Errorf("told of %+v, want the slow one", w.events)
		}

		w = newWatched(t, Config{Outlier: &OutlierConfig{Consecutive: -1, FailureRatio: -1, Deviations: 1.5, MinVolume: 20, MinHosts: 3}}, 6)
		for i := range 6 {
			w.end(i, 30, success)
		}
		time.Sleep(time.Second)
		w.end(0, 1, success)
		w.end(2, 1, failure)
		if len(w.events) == 0 {
			t.Fatal("told of nothing, want the one that deviates")
		}
		if e := w.events[0]; e.Kind != Ejected || e.Cause != Deviation || e.Value >= e.Bound || e.Addr != endpoints(3)[2].Addr {
			t.Errorf("told of %+v, want the one that deviates", w.events)
		}
	})
}

func TestObserveTellsOfPanicAndSpill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t, Config{}, 4)
		eps := endpoints(8)
		for i := range 3 {
			w.SetFailing(eps[i].Addr, true, time.Now())
		}
		w.want("three of four fail their checks", "4/0  0>0 3/4")
		w.SetFailing(eps[0].Addr, false, time.Now())
		w.want("two of them", "5/0  0>0 2/4")

		for i := range eps {
			eps[i].Priority = uint8(i / 4)
		}
		w = newWatched(t, Config{}, 0)
		w.Update(eps)
		w.SetFailing(eps[0].Addr, true, time.Now())
		w.want("one of four fails", "")
		w.SetFailing(eps[1].Addr, true, time.Now())
		if len(w.events) == 0 {
			t.Fatal("told of nothing, want the spill")
		}
		if e := w.events[0]; len(w.events) != 1 || e.Kind != SpillBegan || e.Value < .299 || e.Value > .301 || e.Out != 2 || e.Nodes != 8 {
			t.Errorf("told of %+v, want the spill", w.events)
		}
		w.events = nil
		w.TakeOut(eps[2].Addr, time.Now().Add(time.Minute), false)
		w.SetFailing(eps[0].Addr, false, time.Now())
		w.SetFailing(eps[1].Addr, false, time.Now())
		w.want("one is taken out and the others return", "9/7 2:80 0>0 3/8, 12/0  0>0 1/8")
		time.Sleep(time.Minute)
		if p, err := w.Pick(Info{Now: time.Now()}); err == nil {
			p.Done(Report{Now: time.Now()})
		}
		w.want("its time is up", "10/7 2:80 0>0 0/8")
	})
}

func TestObserveTellsOfBreakers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Breaker: &resilience.BreakerConfig{Consecutive: 2, OpenFor: time.Second, Jitter: -1}}
		w := newWatched(t, cfg, 3)
		w.end(0, 2, failure)
		if got := w.events[0].Until.Sub(w.events[0].Time); got != time.Second {
			t.Errorf("open for %v, want 1s", got)
		}
		w.want("two failures", "6/0 0:80 0>0 0/3")
		w.Update(endpoints(3)[1:])
		w.Update(endpoints(3))
		time.Sleep(time.Second)
		w.end(0, 1, success)
		w.want("a probe of one that left and came back", "7/0 0:80 0>0 0/3, 8/0 0:80 0>0 0/3")
		n := w.Set().Nodes()[1]
		if err := n.Breaker().Force(n.Since(time.Now()), resilience.BreakerForcedOpen); err != nil {
			t.Fatal(err)
		}
		w.want("by hand", "6/7 1:80 0>0 0/3")
	})
}

// TestObserverIsToldInOrderAndFree has callers end attempts at the same time, and an observer that calls the balancer: it
// is called by one at a time, with no lock held, and what it hears of a node fits together.
func TestObserverIsToldInOrderAndFree(t *testing.T) {
	var (
		b       *Balancer
		inside  atomic.Int32
		ejected = map[string]bool{}
		told    int
	)
	eps := endpoints(10)
	observe := func(e Event) {
		if inside.Add(1) != 1 {
			t.Error("the observer is called while it is busy")
		}
		defer inside.Add(-1)
		told++
		switch e.Kind {
		case Ejected:
			if ejected[e.Addr] != (e.Cause == ProbeFailed) {
				t.Errorf("%s was ejected (%d) while it was out: %v", e.Addr, e.Cause, ejected[e.Addr])
			}
			ejected[e.Addr] = true
		case Returned:
			if !ejected[e.Addr] {
				t.Errorf("%s returned, and was not out", e.Addr)
			}
			ejected[e.Addr] = false
		}
		b.SetFailing("10.9.9.9:80", true, time.Now()) // takes the lock
		if told%7 == 0 {
			b.EndEjection(e.Addr, time.Now())
		}
		b.Update(eps)
	}
	b = New(Config{Observe: observe, Outlier: &OutlierConfig{Consecutive: 2, Absolute: true, Ejection: time.Millisecond, MaxEjection: 2 * time.Millisecond}})
	b.Update(eps)
	waiting := func() int {
		b.news.mu.Lock()
		defer b.news.mu.Unlock()
		return len(b.news.queue)
	}
	var wg sync.WaitGroup
	for g := range uint64(4) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(g, 0))
			for range 3000 {
				for waiting() > mostNews/2 { // none is to be lost
					runtime.Gosched()
				}
				p, err := b.Pick(Info{Now: time.Now()})
				if err != nil {
					t.Error(err)
					return
				}
				rep := success
				if r.IntN(2) == 0 {
					rep = failure
				}
				rep.Now = time.Now()
				p.Done(rep)
			}
		})
	}
	wg.Wait()
	if told < 10 {
		t.Errorf("told of %d events", told)
	}
	for _, n := range b.Set().Nodes() {
		if n.Ejected() != ejected[n.Addr()] {
			t.Errorf("%s is ejected: %v, and the observer thinks %v", n.Addr(), n.Ejected(), ejected[n.Addr()])
		}
	}
}

// TestObserverThatIsBusyLosesEvents has more happen meanwhile than is kept.
func TestObserverThatIsBusyLosesEvents(t *testing.T) {
	var (
		b      *Balancer
		kinds  []EventKind
		lost   int
		during = func() {}
	)
	a := endpoints(1)[0].Addr
	b = New(Config{Observe: func(e Event) {
		kinds = append(kinds, e.Kind)
		lost += e.Lost
		during()
	}})
	b.Update(endpoints(3))
	during = func() {
		during = func() {}
		for range 1000 {
			b.TakeOut(a, time.Now().Add(time.Hour), false)
			b.PutBack(a)
		}
	}
	b.TakeOut(a, time.Now().Add(time.Hour), false)
	b.TakeOut(a, time.Now().Add(time.Hour), false) // the first one that tells how many were lost
	if len(kinds) != 1+mostNews+1 || lost != 2000-mostNews {
		t.Errorf("told of %d events and that %d were lost, want %d and %d", len(kinds), lost, mostNews+2, 2000-mostNews)
	}
	if !slices.Contains(kinds, PutBack) {
		t.Error("never told that it was put back")
	}
	// An observer that panics does not end it.
	during = func() { during = func() {}; panic("observer") }
	func() {
		defer func() { _ = recover() }()
		b.TakeOut(a, time.Now().Add(time.Hour), false)
	}()
	before := len(kinds)
	if b.PutBack(a); len(kinds) != before+1 {
		t.Error("the observer is not told any more after a panic")
	}
}

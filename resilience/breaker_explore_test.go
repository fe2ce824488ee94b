package resilience

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"
)

// breakerWorld is a breaker whose permits are held by somebody, and the time.
type breakerWorld struct {
	b       *Breaker
	now     time.Duration
	held    []Permit // still to be given back, in the order in which they were given out
	history string
}

// clone copies a world whose meter counts calls: gobreaker keeps its own.
func (w *breakerWorld) clone() *breakerWorld {
	b := &Breaker{cfg: w.b.cfg, fresh: w.b.fresh, trips: w.b.trips, seed: w.b.seed}
	eras, leases := map[*era]*era{}, map[*lease]*lease{}
	cloned := func(e *era) *era {
		if eras[e] == nil {
			f := *e
			f.breaker, f.common.era, f.leases = b, &f, nil
			leases[&e.common] = &f.common
			for _, l := range e.leases {
				leases[l] = &lease{&f, l.ends}
				f.leases = append(f.leases, leases[l])
			}
			if m, ok := e.meter.(*lastCalls); ok {
				f.meter = &lastCalls{cfg: m.cfg, ring: slices.Clone(m.ring), next: m.next, all: m.all, failed: m.failed, slow: m.slow, run: m.run}
			}
			eras[e] = &f
		}
		return eras[e]
	}
	b.era.Store(cloned(w.b.era.Load()))
	c := &breakerWorld{b: b, now: w.now, history: w.history}
	for _, p := range w.held {
		f := cloned(p.lease.era)
		if leases[p.lease] == nil { // it is over
			leases[p.lease] = &lease{f, p.lease.ends}
		}
		c.held = append(c.held, Permit{leases[p.lease]})
	}
	return c
}

// key is the same for worlds that no event tells apart.
func (w *breakerWorld) key() string {
	e := w.b.era.Load()
	k := fmt.Append(nil, e.state, e.until-w.now, w.b.trips, e.bad, e.slow, e.both)
	if m, ok := e.meter.(*lastCalls); ok {
		k = fmt.Append(k, m.ring, m.next, m.all, m.run)
	}
	for _, l := range e.leases {
		k = fmt.Append(k, "L", l.ends-w.now, slices.Index(w.held, Permit{l}))
	}
	for _, p := range w.held {
		k = fmt.Append(k, "P", p.lease.era == e)
	}
	return string(k)
}

const exploredPermits = 4

// apply lets something happen, and reports whether it can.
func (w *breakerWorld) apply(t *testing.T, event int) bool {
	e := w.b.era.Load()
	switch c := &w.b.cfg; event {
	case 0:
		if len(w.held) == exploredPermits {
			return false
		}
		refuses := w.b.Open(w.now)
		p, ok := w.b.Allow(w.now)
		after := w.b.era.Load()
		switch {
		case ok && refuses, !ok && after.state == BreakerClosed:
			t.Fatalf("%s: admitted %v although open is %v and the breaker then %s", w.history, ok, refuses, after.state)
		case ok && after.state == BreakerHalfOpen && uint32(len(after.leases))+after.both > c.Probes:
			t.Fatalf("%s: %d permits and %d results of %d probes", w.history, len(after.leases), after.both, c.Probes)
		case !ok:
			w.history += " refused"
			return true
		}
		w.held, w.history = append(w.held, p), w.history+" admitted"
	case 1, 2, 3, 4, 5: // the oldest permit, which may be late, or the newest
		o := []Outcome{Success, Failure, Neutral, Success, Failure}[event-1]
		if len(w.held) == 0 || event > 3 && len(w.held) == 1 {
			return false
		}
		i := 0
		if event > 3 {
			i = len(w.held) - 1
		}
		p := w.held[i]
		w.held = slices.Delete(w.held, i, i+1)
		p.Done(w.now, o, 0)
		if after := w.b.era.Load(); p.lease.era != e && after != e {
			t.Fatalf("%s: a late result changed the state", w.history)
		}
		w.history += fmt.Sprint(" ", i, o)
	case 6:
		w.now += c.OpenFor / 2
		w.history += " wait"
	case 7: // as long as it is open
		if e.state != BreakerOpen || e.until <= w.now {
			return false
		}
		w.now = e.until
		w.history += " until"
	case 8: // lost
		if len(w.held) == 0 {
			return false
		}
		w.held = w.held[1:]
		w.history += " lost"
	default:
		return false
	}
	return true
}

// heals checks that the breaker is closed soon if everything succeeds from now on. Permits that are held are never given back.
func (w *breakerWorld) heals(t *testing.T) {
	t.Helper()
	c := &w.b.cfg
	present := c.OpenFor << max(w.b.trips-1, 0) // how long it is open, or was the last time
	limit := w.now + 2*min(present, c.MaxOpenFor)
	if c.Calls > 0 { // the failures of a probation that has begun may open it once more
		limit += min(2*present, c.MaxOpenFor)
	}
	if e := w.b.era.Load(); len(e.leases) > 0 {
		limit += c.Lease
	}
	for ; w.now <= limit; w.now += c.OpenFor / 4 {
		for range c.Probes {
			if p, ok := w.b.Allow(w.now); ok {
				p.Done(w.now, Success, 0)
			}
		}
		if w.b.State(w.now) == BreakerClosed {
			return
		}
	}
	t.Fatalf("%s: the breaker is %s although all has been well for long", w.history, w.b.State(w.now))
}

// Every order of events up to a depth, by breadth: none over-admits, and after none the breaker is stuck.
func TestBreakerIsSoundInAnyOrderOfEvents(t *testing.T) {
	const depth = 12
	for _, c := range []BreakerConfig{
		{Calls: 4, MinRequests: 2, Consecutive: 2, Probes: 1},
		{Calls: 3, MinRequests: 3, Consecutive: math.MaxUint32, Probes: 2},
		{Calls: 3, MinRequests: 1, Consecutive: 1, Probes: 3},
	} {
		c.OpenFor, c.MaxOpenFor, c.Lease, c.Jitter, c.Seed = time.Second, 4*time.Second, 3*time.Second, -1, 1
		for _, probation := range []bool{false, true} { // as in Resilience4j, or not: the meter counts calls in any case
			seen := map[string]bool{}
			b := NewBreaker(c)
			if !probation {
				of := b.cfg
				b.cfg.Calls, b.fresh = 0, of.meter
			}
			layer := []*breakerWorld{{b: b}}
			for range depth {
				var next []*breakerWorld
				for _, w := range layer {
					for event := range 9 {
						v := w.clone()
						if !v.apply(t, event) {
							continue
						}
						if k := v.key(); !seen[k] {
							seen[k] = true
							next = append(next, v)
							v.clone().heals(t)
						}
					}
				}
				layer = next
			}
			if len(seen) < 300 {
				t.Errorf("%+v: only %d states", c, len(seen))
			}
		}
	}
}

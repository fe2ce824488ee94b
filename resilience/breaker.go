package resilience

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ErrBreakerOpen says that a call was refused because a circuit breaker is open.
var ErrBreakerOpen = errors.New("resilience: circuit breaker is open")

// BreakerState is what a circuit breaker does at present: one of the six states of Resilience4j. The last three are
// only ever entered by Breaker.Force.
type BreakerState string

const (
	// BreakerClosed breakers admit everything and watch how it goes.
	BreakerClosed BreakerState = "closed"
	// BreakerOpen ones refuse everything for a while.
	BreakerOpen BreakerState = "open"
	// BreakerHalfOpen ones admit a few attempts as probes, which decide how it goes on.
	BreakerHalfOpen BreakerState = "half-open"
	// BreakerDisabled ones admit everything and count nothing.
	BreakerDisabled BreakerState = "disabled"
	// BreakerForcedOpen ones refuse everything.
	BreakerForcedOpen BreakerState = "forced-open"
	// BreakerMetricsOnly ones decide like others, but their refusals are not enforced; see Breaker.Ask.
	BreakerMetricsOnly BreakerState = "metrics-only"
)

// Breaker is a circuit breaker, of an endpoint or of a service. While it is closed a meter counts failures and slow
// answers: the rolling window of gobreaker, or the last BreakerConfig.Calls. What it adds is how it closes again: a time to
// be open that grows and varies, permits that cannot be lost, and states that are set by hand. Overload and Neutral
// outcomes give their permit back and count for nothing.
//
// Methods take the time, a reading of one clock that never goes back, and start no timer: what a breaker is follows from
// when it is asked. All are safe for concurrent use. Ask, Open and State take no lock unless it is on probation.
type Breaker struct {
	cfg   BreakerConfig
	era   atomic.Pointer[era]
	usual *usual       // nil unless it is learned what is slow
	fresh func() meter // makes that of an era

	mu      sync.Mutex // guards what follows, the leases of eras and their succession
	trips   int        // since it was closed
	seed    uint64
	observe func(BreakerChange) // nil if nobody wants to know
	changes []BreakerChange     // that observe is yet to be told of
	telling bool                // somebody is about it
}

// BreakerChange tells of a change of the state of a Breaker.
type BreakerChange struct {
	// State is the present one: BreakerMetricsOnly does not tell what would be if its decisions were enforced.
	State BreakerState
	// At is when it changed, and Until when an open breaker admits its next probe, 0 if it is not open or nobody knows.
	At, Until time.Duration
	// Forced says that it was set by hand.
	Forced bool
}

// Observe has f called after each change of state from now on, in order, one at a time and with no lock of the breaker held, in the
// goroutine of whoever caused the change or of another who did at the same time. An open breaker becomes half-open when its first probe
// is let through. nil ends it.
func (b *Breaker) Observe(f func(BreakerChange)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.observe = f
}

// unlock tells of what has changed since the lock was taken, and gives it back. Of what an observer that panics is not told, the next
// change tells.
func (b *Breaker) unlock() {
	defer b.mu.Unlock()
	if len(b.changes) == 0 || b.telling {
		return
	}
	b.telling = true
	defer func() { b.telling = false }()
	for len(b.changes) > 0 {
		c := b.changes[0]
		b.changes = b.changes[1:]
		b.tell(c)
	}
	b.changes = nil
}

// tell calls the observer without the lock, which is held before and after, even if it panics.
func (b *Breaker) tell(c BreakerChange) {
	f := b.observe
	if f == nil {
		return
	}
	b.mu.Unlock()
	defer b.mu.Lock()
	f(c)
}

// era is the time between two changes of state. Permits belong to one, so that their results do not count in another.
type era struct {
	breaker *Breaker
	state   BreakerState // as if its decisions were enforced
	shadow  bool         // they are not
	until   time.Duration
	meter   meter // while closed
	common  lease // that of all permits but those of probations

	// What follows is of probations.
	leases          []*lease
	bad, slow, both uint32 // results: of failures, of slow ones, and all
}

// lease is what a permit stands for.
type lease struct {
	era  *era
	ends time.Duration // on probation
}

// meter decides when a closed breaker opens.
type meter interface {
	// add counts a result and reports whether the breaker is to open.
	add(failed, slow bool) bool
}

// NewBreaker returns a closed breaker. Fields that make no sense count as 0; see BreakerConfig.Validate.
func NewBreaker(c BreakerConfig) *Breaker {
	c = c.withDefaults()
	b := &Breaker{cfg: c, seed: c.Seed}
	if b.seed == 0 {
		b.seed = rand.Uint64()
	}
	if c.SlowFactor > 0 {
		b.usual = &usual{factor: c.SlowFactor}
	}
	b.fresh = b.cfg.meter
	b.begin(0, &era{state: BreakerClosed}, false)
	return b
}

// begin begins an era. mu is held, or nobody knows the breaker yet.
func (b *Breaker) begin(now time.Duration, e *era, forced bool) {
	if b.observe != nil {
		if was := b.era.Load(); !was.shadow || !e.shadow {
			c := BreakerChange{State: e.state, At: now, Until: e.until, Forced: forced}
			if e.shadow {
				c.State, c.Until = BreakerMetricsOnly, 0
			}
			b.changes = append(b.changes, c)
		}
	}
	e.breaker, e.common.era = b, e
	if e.state == BreakerClosed {
		b.trips = 0
		e.meter = b.fresh()
	}
	b.era.Store(e)
}

// open begins to refuse. mu is held.
func (b *Breaker) open(now time.Duration, shadow, forced bool) {
	c := &b.cfg
	d := c.OpenFor
	for range b.trips {
		if d = min(2*d, c.MaxOpenFor); d == c.MaxOpenFor {
			break
		}
	}
	b.trips++
	b.seed = b.seed*6364136223846793005 + 1442695040888963407 // the generator of D. E. Knuth's MMIX
	d -= time.Duration(c.Jitter * unit(b.seed) * float64(d))
	b.begin(now, &era{state: BreakerOpen, until: after(now, max(d, 1)), shadow: shadow}, forced)
}

// trip opens a breaker that was closed.
func (b *Breaker) trip(e *era, now time.Duration) {
	b.mu.Lock()
	defer b.unlock()
	if b.era.Load() == e {
		b.open(now, e.shadow, false)
	}
}

// Open reports whether the breaker refuses everything at the given time. When it returns false Allow may still refuse: a
// breaker on probation admits few.
func (b *Breaker) Open(now time.Duration) bool {
	e := b.era.Load()
	return e.meter == nil && !e.shadow && (e.state == BreakerOpen && now < e.until || e.state == BreakerForcedOpen)
}

// OpenUntil returns when an open breaker admits its next probe, and 0 if it is not open or nobody knows.
func (b *Breaker) OpenUntil() time.Duration { return b.era.Load().until }

// State returns the state of the breaker.
func (b *Breaker) State(now time.Duration) BreakerState {
	e := b.era.Load()
	switch {
	case e.shadow:
		return BreakerMetricsOnly
	case e.state == BreakerOpen && now >= e.until:
		return BreakerHalfOpen
	}
	return e.state
}

// Force sets the state by hand. BreakerDisabled, BreakerForcedOpen and BreakerMetricsOnly last until it is called again; the
// others are what the breaker goes on from. BreakerClosed forgets what was counted.
func (b *Breaker) Force(now time.Duration, s BreakerState) error {
	b.mu.Lock()
	defer b.unlock()
	switch s {
	case BreakerClosed, BreakerHalfOpen, BreakerDisabled, BreakerForcedOpen:
		b.begin(now, &era{state: s}, true)
	case BreakerMetricsOnly:
		b.begin(now, &era{state: BreakerClosed, shadow: true}, true)
	case BreakerOpen:
		b.open(now, false, true)
	default:
		return fmt.Errorf("resilience: a breaker has no state %q", string(s))
	}
	return nil
}

// Permit is the right to make one attempt. Done must be called exactly once. On the zero Permit it does nothing.
type Permit struct {
	lease *lease // a word, as every attempt keeps two permits
}

// Allow asks for a permit.
func (b *Breaker) Allow(now time.Duration) (p Permit, ok bool) {
	p, ok, enforced := b.Ask(now)
	return p, ok || !enforced
}

// Ask is Allow for those who want to know of refusals that are not enforced, because the breaker is BreakerMetricsOnly: the
// attempt is to be made then, with the permit that it returns.
func (b *Breaker) Ask(now time.Duration) (p Permit, ok, enforced bool) {
	for {
		e := b.era.Load()
		switch {
		case e.state == BreakerClosed:
			return Permit{&e.common}, true, true
		case e.state == BreakerDisabled:
			return Permit{}, true, true
		case e.state == BreakerForcedOpen, e.state == BreakerOpen && now < e.until:
			return Permit{}, false, !e.shadow
		}
		if p, ok, done := b.probe(e, now); done {
			return p, ok, !e.shadow
		}
	}
}

// probe asks for a permit on probation, which it begins if the time has come. It is not done if the breaker has gone on
// meanwhile.
func (b *Breaker) probe(e *era, now time.Duration) (p Permit, ok, done bool) {
	b.mu.Lock()
	defer b.unlock()
	if b.era.Load() != e {
		return p, false, false
	}
	if e.state == BreakerOpen {
		e = &era{state: BreakerHalfOpen, shadow: e.shadow}
		b.begin(now, e, false)
	}
	e.leases = slices.DeleteFunc(e.leases, func(l *lease) bool { return now >= l.ends })
	if uint32(len(e.leases))+e.both >= b.cfg.Probes {
		return p, false, true
	}
	l := &lease{e, after(now, b.cfg.Lease)}
	e.leases = append(e.leases, l)
	return Permit{l}, true, true
}

// Done gives the permit back and reports how the attempt went. latency is how long it took, 0 if that tells nothing. It does
// nothing if the breaker has changed its state meanwhile, or if the lease of the permit is over.
func (p Permit) Done(now time.Duration, o Outcome, latency time.Duration) {
	if p.lease == nil {
		return
	}
	e := p.lease.era
	b := e.breaker
	counts := o == Success || o == Failure
	if e.state == BreakerClosed {
		if counts && b.era.Load() == e {
			slow := b.usual.exceeded(now, latency, o) || b.slow(latency)
			if e.meter.add(o == Failure, slow) {
				b.trip(e, now)
			}
		}
		return
	}
	b.mu.Lock()
	defer b.unlock()
	i := slices.Index(e.leases, p.lease)
	if b.era.Load() != e || i < 0 {
		return
	}
	e.leases = slices.Delete(e.leases, i, i+1)
	if !counts {
		return
	}
	e.both++
	if o == Failure {
		e.bad++
	}
	if b.slow(latency) {
		e.slow++
	}
	switch failed, over := b.cfg.decide(e); {
	case failed:
		b.open(now, e.shadow, false)
	case over:
		b.begin(now, &era{state: BreakerClosed, shadow: e.shadow}, false)
	}
}

// slow reports whether an answer took longer than any may.
func (b *Breaker) slow(latency time.Duration) bool {
	return b.cfg.SlowAfter > 0 && latency > b.cfg.SlowAfter
}

// decide reports whether a probation has failed, and else whether it is over.
func (c *BreakerConfig) decide(e *era) (failed, over bool) {
	if c.Calls == 0 {
		return e.bad+e.slow > 0, e.both >= c.Probes
	}
	if e.both < min(c.MinRequests, c.Probes) {
		return false, false
	}
	return c.tooMany(e.bad, e.slow, e.both), true
}

package resilience

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"time"
)

// ErrThrottled says that an attempt was not made because the service refuses most of them.
var ErrThrottled = errors.New("resilience: throttled, as the service refuses most requests")

// ThrottleConfig says when a client refuses attempts itself, instead of a service that refuses too many.
type ThrottleConfig struct {
	// K is how many requests are sent for each that the service accepts, in the long run: the service has K-1 to refuse for
	// each that it accepts. 0 means 2, the least is 1. With 1.1 little is wasted on refusals, and it takes longer to see
	// that the service has recovered; 1/0.95 is the threshold of Envoy's admission control.
	K float64
	// Window is the time over which requests are counted, at least 1 s. 0 means 2 min. With a K of 2 what is sent doubles twice
	// in a Window when a service has recovered that accepted next to nothing: a shorter one recovers sooner.
	Window time.Duration
	// Aggression is what the share of refused requests is taken to the power of, as its inverse: with 2 a share of 0.01 becomes
	// one of 0.1. 0 means 1, at most 100.
	Aggression float64
	// MaxRejection is the largest share of requests that is refused. 0 means 1; it is 0.8 in Envoy's admission control.
	MaxRejection float64
}

const (
	minThrottleWindow = time.Second
	maxAggression     = 100
	// throttleSlots is how many parts a window has. Fewer, and the share would jump whenever one is forgotten.
	throttleSlots = 60
	// passEvery is how often an attempt passes in any case. Ten times less often, and a small client would take long
	// to see that the service has recovered.
	passEvery = time.Second
	// passAgain is how soon another attempt passes if nobody waited for the end of one, which so tells nothing.
	passAgain = passEvery / 4
)

func (c ThrottleConfig) withDefaults() ThrottleConfig {
	if !(c.K >= 1) || math.IsInf(c.K, 1) {
		c.K = 2
	}
	if c.Window < minThrottleWindow {
		c.Window = 2 * time.Minute
	}
	if !(c.Aggression > 0 && c.Aggression <= maxAggression) {
		c.Aggression = 1
	}
	if !(c.MaxRejection > 0 && c.MaxRejection <= 1) {
		c.MaxRejection = 1
	}
	return c
}

// Validate reports every field that makes no sense.
func (c ThrottleConfig) Validate() error {
	var errs []error
	check := func(ok bool, field, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(field+": "+format, args...))
		}
	}
	check(c.K == 0 || c.K >= 1 && c.K <= 1000, "k", "must be between 1 and 1000, got %v", c.K)
	check(c.Window == 0 || c.Window >= minThrottleWindow, "window", "must be at least %v, got %v", minThrottleWindow, c.Window)
	check(c.Aggression >= 0 && c.Aggression <= maxAggression, "aggression", "must be between 0 and %d, got %v", maxAggression, c.Aggression)
	check(c.MaxRejection >= 0 && c.MaxRejection <= 1, "maxRejection", "must be between 0 and 1, got %v", c.MaxRejection)
	return errors.Join(errs...)
}

// Throttle refuses attempts that the service would most likely refuse, so that its refusals do not take what it has: the
// client-side throttling of B. Beyer and others, Site Reliability Engineering, chapter 21. It refuses with the probability
//
//	max(0, (requests - K*accepts) / (requests + 1))
//
// of those requests that the caller wanted to make in the last Window, and those that the service accepted. Requests
// count when they begin; those refused here count among the requests only. What is under way is taken to be accepted as
// often as what is over, and always while nothing is: or many calls that begin together would refuse each other before
// the first of them has an answer. One attempt a second passes in any case, and another one a quarter of a second after one of which
// nobody knows how it ended: or callers that leave early would take what is to show that the service has recovered.
//
// It is to be used for calls of the same criticality, as the book says: those of others may be refused more or less often.
// The lock is held for some ten nanoseconds. All methods are safe for concurrent use.
type Throttle struct {
	cfg  ThrottleConfig
	slot time.Duration

	mu       sync.Mutex // guards what follows
	slots    [throttleSlots]ballot
	present  int64  // number of the slot that is counted in
	sum      ballot // of all slots
	underWay int64
	passed   time.Duration // when an attempt passed last
}

// ballot counts requests by what became of them: rejected were those that were not sent.
type ballot struct{ requests, rejected, accepts, refusals int64 }

// NewThrottle returns a Throttle that has seen nothing. Fields that make no sense count as 0; see ThrottleConfig.Validate.
func NewThrottle(c ThrottleConfig) *Throttle {
	c = c.withDefaults()
	return &Throttle{cfg: c, slot: c.Window / throttleSlots, passed: -passEvery}
}

// turn goes on to the slot of the time and returns it. mu is held.
func (t *Throttle) turn(now time.Duration) *ballot {
	n := int64(now / t.slot)
	for range min(n-t.present, throttleSlots) {
		t.present++
		s := &t.slots[t.present%throttleSlots]
		t.sum.requests -= s.requests
		t.sum.rejected -= s.rejected
		t.sum.accepts -= s.accepts
		t.sum.refusals -= s.refusals
		*s = ballot{}
	}
	if n > t.present { // all that was counted is forgotten
		t.present = n
	}
	return &t.slots[t.present%throttleSlots]
}

// probability is that of a refusal. mu is held.
func (t *Throttle) probability() float64 {
	known := t.sum.accepts + t.sum.refusals
	requests := float64(max(t.sum.requests, 0))
	accepts := float64(t.sum.accepts)
	open := float64(min(t.underWay, max(t.sum.requests-t.sum.rejected-known, 0))) // of those in the window
	if known > 0 {
		open *= accepts / float64(known)
	}
	accepts += open
	p := (requests - t.cfg.K*accepts) / (requests + 1)
	if p <= 0 {
		return 0
	}
	if t.cfg.Aggression != 1 {
		p = math.Pow(p, 1/t.cfg.Aggression)
	}
	return min(p, t.cfg.MaxRejection)
}

// Probability returns the probability that an attempt is refused at present, but for the one a second that passes.
func (t *Throttle) Probability(now time.Duration) float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn(now)
	return t.probability()
}

// Allow counts a request and reports whether it may be sent. r is a random word. Done must be called once for each that is
// sent.
func (t *Throttle) Allow(now time.Duration, r uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.turn(now)
	p := t.probability()
	s.requests++
	t.sum.requests++
	if unit(r) < p && now < t.passed+passEvery {
		s.rejected++
		t.sum.rejected++
		return false
	}
	t.passed = now
	t.underWay++
	return true
}

// Insist says that the request that Allow was against last is sent all the same. Done must be called for it.
func (t *Throttle) Insist() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.slots[t.present%throttleSlots].rejected--
	t.sum.rejected--
	t.underWay++
}

// Done says what became of a request: it was accepted (Success), refused (Failure or Overload), or nobody knows (Neutral), and it
// does not count. What a failure is depends on the protocol: an error that the service took the trouble to make is no
// refusal.
func (t *Throttle) Done(now time.Duration, o Outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.turn(now)
	t.underWay--
	switch o {
	case Success:
		s.accepts++
		t.sum.accepts++
	case Failure, Overload:
		s.refusals++
		t.sum.refusals++
	default:
		s.requests-- // that it was counted in another slot evens out when both are forgotten
		t.sum.requests--
		t.passed = min(t.passed, now-passEvery+passAgain)
	}
}

// Next returns when an attempt passes in any case.
func (t *Throttle) Next() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.passed + passEvery
}

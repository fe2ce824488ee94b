package resilience

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// BreakerConfig says when a circuit breaker opens and how it closes again.
type BreakerConfig struct {
	// Consecutive failures open the breaker. 0 means 5.
	Consecutive uint32
	// Ratio of failures in the window opens it, once there are MinRequests. 0 means 0.5.
	Ratio float64
	// MinRequests is the volume below which Ratio says nothing. 0 means 20.
	MinRequests uint32
	// Window is the time over which failures are counted, in ten buckets; at least 10 ms. 0 means 10 s.
	Window time.Duration
	// OpenFor is how long the breaker stays open before it lets probes through. 0 means 1 s.
	OpenFor time.Duration
	// Probes is the number of attempts let through at a time after that; as many successes close the
	// breaker, one failure opens it again. 0 means 1.
	Probes uint32
}

// minWindow leaves a millisecond for each bucket; in less time nobody fails often enough to tell.
const minWindow = 10 * time.Millisecond

func (c BreakerConfig) withDefaults() BreakerConfig {
	if c.Consecutive == 0 {
		c.Consecutive = 5
	}
	if !(c.Ratio > 0 && c.Ratio <= 1) {
		c.Ratio = 0.5
	}
	if c.MinRequests == 0 {
		c.MinRequests = 20
	}
	if c.Window < minWindow {
		c.Window = 10 * time.Second
	}
	if c.OpenFor <= 0 {
		c.OpenFor = time.Second
	}
	if c.Probes == 0 {
		c.Probes = 1
	}
	return c
}

// Validate reports the first field that makes no sense.
func (c BreakerConfig) Validate() error {
	switch {
	case !(c.Ratio >= 0 && c.Ratio <= 1):
		return fmt.Errorf("ratio: must be between 0 and 1, got %v", c.Ratio)
	case c.Window != 0 && c.Window < minWindow:
		return fmt.Errorf("window: must be at least %v, got %v", minWindow, c.Window)
	case c.OpenFor < 0:
		return fmt.Errorf("openFor: must not be negative, got %v", c.OpenFor)
	}
	return nil
}

// Breaker is the circuit breaker of one endpoint, on gobreaker's two-step breaker with a rolling window.
// Overload and Neutral outcomes give their permit back and count for nothing. Safe for concurrent use.
type Breaker struct {
	cb *gobreaker.TwoStepCircuitBreaker[struct{}]
	// base makes the times below monotonic: a step of the wall clock must not open or close anything.
	base time.Time
	// openUntil mirrors the state for readers that must not take gobreaker's lock: the nanoseconds after
	// base at which an open breaker lets probes through, 0 while it is not open.
	openUntil atomic.Int64
}

var (
	errFailed  = errors.New("failed")
	errNeutral = errors.New("neutral")
)

// NewBreaker returns a closed breaker. Fields that make no sense count as 0; see Validate.
func NewBreaker(c BreakerConfig) *Breaker {
	c = c.withDefaults()
	b := &Breaker{base: time.Now()}
	b.cb = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:  c.Probes,
		Interval:     c.Window,
		BucketPeriod: c.Window / 10,
		Timeout:      c.OpenFor,
		ReadyToTrip: func(n gobreaker.Counts) bool {
			if n.ConsecutiveFailures >= c.Consecutive {
				return true
			}
			valid := n.TotalSuccesses + n.TotalFailures
			return valid >= c.MinRequests && float64(n.TotalFailures) >= c.Ratio*float64(valid)
		},
		OnStateChange: func(_ string, _, to gobreaker.State) {
			if to == gobreaker.StateOpen {
				b.openUntil.Store(int64(time.Since(b.base) + c.OpenFor))
			} else {
				b.openUntil.Store(0)
			}
		},
		IsExcluded: func(err error) bool { return errors.Is(err, errNeutral) },
	})
	return b
}

// Open reports whether the breaker rejects attempts at the given time. It takes no lock. When it returns
// false Allow may still refuse: a breaker on probation admits few.
func (b *Breaker) Open(now time.Time) bool {
	until := b.openUntil.Load()
	return until != 0 && int64(now.Sub(b.base)) <= until
}

// OpenUntil returns when an open breaker admits its next probe, and the zero time if it is not open.
func (b *Breaker) OpenUntil() time.Time {
	if until := b.openUntil.Load(); until != 0 {
		return b.base.Add(time.Duration(until))
	}
	return time.Time{}
}

// State returns "closed", "half-open" or "open".
func (b *Breaker) State() string { return b.cb.State().String() }

// Permit is the right to make one attempt. Done must be called exactly once.
type Permit struct{ done func(error) }

// Allow asks for a permit.
func (b *Breaker) Allow() (Permit, bool) {
	done, err := b.cb.Allow()
	return Permit{done}, err == nil
}

// Done gives the permit back and reports how the attempt went. On the zero Permit it does nothing.
func (p Permit) Done(o Outcome) {
	if p.done == nil {
		return
	}
	switch o {
	case Success:
		p.done(nil)
	case Failure:
		p.done(errFailed)
	default:
		p.done(errNeutral)
	}
}

package resilience

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"net"
	"time"
)

// Stack says how Do protects the calls of a function. It is plain data: a stage whose field is nil or zero is off. What
// learns from one call for the next (RateLimit, Limit, Budget, Hedge.Latency, Throttle, Breaker) is made once by its constructor and
// may be shared by any number of stacks. The order of the stages is fixed, from the caller to the function:
//
//	Timeout > fallback > RateLimit > Limit > Retry and Hedge, paid by Budget > Throttle > Breaker > AttemptTimeout
//
// A Stack must not change while it is used, and is then safe for concurrent use.
type Stack struct {
	// Timeout bounds the whole call with all its attempts and pauses. 0 means none; the deadline of the caller's context
	// always holds.
	Timeout time.Duration
	// AttemptTimeout bounds each attempt. 0 means none.
	AttemptTimeout time.Duration
	// Idempotent says that the function may be executed more than once for a call. Without it an attempt is repeated only
	// if it was Unsent, as Classify says, and is never joined by another one.
	Idempotent bool
	// Criticality says who goes first where calls wait for Limit. Sheddable calls are not repeated, and below Critical they
	// are not hedged. The zero value is Critical.
	Criticality Criticality
	// RateLimit bounds how many calls begin in a second. nil means any number.
	RateLimit *RateLimit
	// MaxWait is how long a call waits for RateLimit before that refuses it. 0 means not at all.
	MaxWait time.Duration
	// Limit bounds how many calls are under way at once; it may have the others wait. nil means any number.
	Limit *Limit
	// Retry says how failed attempts are repeated. nil means not at all.
	Retry *Retry
	// Hedge says when a slow attempt is joined by another one. nil means never.
	Hedge *Hedge
	// Budget pays for retries and hedges. nil means that all are granted, which is no good where many callers meet the same
	// outage.
	Budget *Budget
	// Throttle refuses a part of the attempts while most of them fail. What it refuses is not repeated. nil means none.
	Throttle *Throttle
	// Breaker refuses attempts while too many of them fail. What it refuses is not repeated, and counts for nothing.
	Breaker *Breaker
	// Classify says what an error of the function means; it is not asked about nil. A Success is an answer, which Do
	// returns as it is. nil means that every error is a Failure worth repeating, and that of a failed dial (*net.OpError) also
	// Unsent. It must be safe for concurrent use.
	Classify func(error) Verdict
	// Rand is the source of the jitter of pauses. It must be safe for concurrent use. nil means math/rand/v2.
	Rand func() uint64
}

// Retry says how failed attempts are repeated.
type Retry struct {
	// Attempts is the largest number of attempts of a call, the first one and hedges included. 0 means 3, the most is
	// MaxAttempts.
	Attempts int
	// Backoff is the pause before an attempt is repeated.
	Backoff BackoffConfig
}

// Hedge says when a slow attempt is joined by another one; the first success wins and the context of the other ends. Without
// Retry a call has two attempts at most.
type Hedge struct {
	// After is how long an attempt runs before it is joined. 0 means 1 s. With Latency it is the least time, of which 0
	// means 50 ms.
	After time.Duration
	// Latency, if not nil, learns how long successful attempts take, and an attempt is joined when it has run for Factor times
	// the upper quantile, 1 s until that is known, or half of the time to the deadline if that is less.
	Latency *Latency
	// Factor is multiplied with the learned quantile. 0 means 2.
	Factor float64
}

const (
	defaultRetryAttempts = 3
	defaultHedgeFactor   = 2
	// leastHedge keeps hedges of fast calls from being sent for a pause of the scheduler or the garbage collector.
	leastHedge = 50 * time.Millisecond
	// unlearnedLatency is what stands for the time of an attempt that is long while nothing is known.
	unlearnedLatency = time.Second
)

// timeoutError says that a stage of a Stack took too long.
type timeoutError struct {
	what  string
	limit time.Duration
}

func (e *timeoutError) Error() string {
	return "resilience: " + e.what + " took longer than " + e.limit.String()
}

// Timeout is true, as for net.Error.
func (e *timeoutError) Timeout() bool { return true }

func (e *timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// base is what the clock of Do starts from. It is long ago because the clocks of tests (testing/synctest) begin in the year
// 2000, and times must not be negative.
var base = time.Now().Add(-100 * 365 * 24 * time.Hour)

// sinceBase returns the time since base, for two thirds of what time.Now takes: it reads the monotonic clock only.
func sinceBase() time.Duration { return time.Since(base) }

// config sets what a call that begins now may do.
func (s *Stack) config(ctx context.Context, now time.Duration, c *CallConfig) {
	c.Idempotent, c.Budget = s.Idempotent, s.Budget
	if d, ok := ctx.Deadline(); ok {
		left := d.Sub(base) - now
		if d == d.Round(0) { // it has no monotonic reading: what counts is the wall clock's present time
			left = time.Until(d)
		}
		c.Deadline = after(now, max(left, 1))
	}
	level := s.Criticality.Or(Critical)
	if r := s.Retry; r != nil && level > Sheddable {
		c.Attempts, c.Backoff = r.Attempts, r.Backoff
		if r.Attempts == 0 {
			c.Attempts = defaultRetryAttempts
		}
	} else {
		c.NoRetry = true
	}
	h := s.Hedge
	if h == nil || level < Critical {
		return
	}
	if s.Retry == nil {
		c.Attempts = 2
	}
	c.Backup = h.After
	if h.Latency == nil {
		if c.Backup <= 0 {
			c.Backup = unlearnedLatency
		}
		return
	}
	c.Backup = unlearnedLatency
	if p50, tail, ok := h.Latency.Quantiles(); ok {
		f := h.Factor
		if !(f > 0) {
			f = defaultHedgeFactor
		}
		c.Backup, c.MinRemaining = time.Duration(min(f*float64(tail), math.MaxInt64/2)), p50/2
	}
	if c.Deadline > 0 { // a hedge that comes after the deadline saves nobody
		c.Backup = min(c.Backup, (c.Deadline-now)/2)
	}
	least := h.After
	if least <= 0 {
		least = leastHedge
	}
	c.Backup = max(c.Backup, least)
}

// usual returns how long an attempt must have run for it to be the function's fault that the deadline of the call passed.
func (s *Stack) usual() time.Duration {
	if s.Hedge != nil && s.Hedge.Latency != nil {
		if p50, _, ok := s.Hedge.Latency.Quantiles(); ok {
			return p50
		}
	}
	for _, d := range [...]time.Duration{s.AttemptTimeout, s.Timeout, unlearnedLatency} {
		if d > 0 {
			return d / 2
		}
	}
	return 0
}

func (s *Stack) verdict(err error) Verdict {
	switch {
	case err == nil:
		return Verdict{Outcome: Success}
	case s.Classify != nil:
		return s.Classify(err)
	}
	var op *net.OpError
	return Verdict{Outcome: Failure, Retry: true, Unsent: errors.As(err, &op) && op.Op == "dial"}
}

func (s *Stack) random() uint64 {
	if s.Rand != nil {
		return s.Rand()
	}
	return rand.Uint64()
}

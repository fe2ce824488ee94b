package resilience

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"
)

// ErrRateLimited says that a call was refused because too many came before it.
var ErrRateLimited = errors.New("resilience: rate limit reached")

// RateLimitConfig says how many calls may begin.
type RateLimitConfig struct {
	// Rate is how many calls may begin in a second, between 0.001 and 1,000,000. There is no default. It is kept with up to a
	// thousandth less, since the time between two calls is a number of nanoseconds.
	Rate float64
	// Burst is how many may begin at once after a pause, at most 1,000,000. 0 means what Rate allows in a second, at least 1.
	Burst int
}

const (
	minRate  = 0.001
	maxRate  = 1_000_000
	maxBurst = 1_000_000
)

// Validate reports every field that makes no sense.
func (c RateLimitConfig) Validate() error {
	var errs []error
	if !(c.Rate >= minRate && c.Rate <= maxRate) {
		errs = append(errs, fmt.Errorf("rate: must be between %v and %v, got %v", minRate, maxRate, c.Rate))
	}
	if c.Burst < 0 || c.Burst > maxBurst {
		errs = append(errs, fmt.Errorf("burst: must be between 0 and %d, got %d", maxBurst, c.Burst))
	}
	return errors.Join(errs...)
}

// RateLimit lets calls begin at a bounded rate. It is a token bucket kept as one number, the time at which the bucket
// will be full again, as in the generic cell rate algorithm of ATM (ITU-T I.371): in any time t no more than
// Rate*t + Burst calls begin, however many ask at once.
//
// It takes no lock. All methods are safe for concurrent use. Times are readings of one clock that never goes back.
type RateLimit struct {
	full     atomic.Int64
	interval int64 // between two calls, rounded up
	ahead    int64 // how far full may be ahead of a call that begins
}

// NewRateLimit returns a full bucket. Fields out of range are brought into it; see RateLimitConfig.Validate.
func NewRateLimit(c RateLimitConfig) *RateLimit {
	if !(c.Rate >= minRate) {
		c.Rate = minRate
	}
	c.Rate = min(c.Rate, maxRate)
	if c.Burst <= 0 {
		c.Burst = max(1, int(c.Rate))
	}
	l := &RateLimit{interval: int64(math.Ceil(float64(time.Second) / c.Rate))}
	l.ahead = int64(min(c.Burst, maxBurst)-1) * l.interval
	l.full.Store(math.MinInt64 / 2)
	return l
}

// Allow reports whether a call may begin now.
func (l *RateLimit) Allow(now time.Duration) bool {
	_, ok := l.Reserve(now, 0)
	return ok
}

// Reserve lets a call begin after a pause of at most maxWait, and returns that pause: calls take their turns in the order
// in which they ask. If the pause would be longer, it returns false and how long it would be at present.
func (l *RateLimit) Reserve(now, maxWait time.Duration) (wait time.Duration, ok bool) {
	for {
		full := l.full.Load()
		wait = time.Duration(max(full-l.ahead-int64(now), 0))
		if wait > maxWait {
			return wait, false
		}
		if l.full.CompareAndSwap(full, max(full, int64(now))+l.interval) {
			return wait, true
		}
	}
}

// Cancel gives back the turn of a call that was told at the given time to wait, and did not begin. If others have asked
// since, theirs do not come earlier for it, and the turn passes unused.
func (l *RateLimit) Cancel(now, wait time.Duration) {
	turn := int64(now+wait) + l.ahead + l.interval
	if wait > 0 {
		l.full.CompareAndSwap(turn, turn-l.interval)
	}
}

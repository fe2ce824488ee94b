package resilience

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// BreakerConfig says when a circuit breaker opens and how it closes again.
type BreakerConfig struct {
	// Consecutive failures open the breaker. 0 means 5.
	Consecutive uint32
	// Ratio of failures in the window opens it, once there are MinRequests. 0 means 0.5.
	Ratio float64
	// MinRequests is the volume below which ratios say nothing. 0 means 20.
	MinRequests uint32
	// Window is the time over which failures are counted, in ten buckets; between 10 ms and 24 h. 0 means 10 s.
	Window time.Duration
	// Calls makes the window the last so many calls instead, at most 100,000, by the rules of Resilience4j: MinRequests is
	// at most Calls, and ratios also count after successes. On probation nothing is decided before as many results are in as
	// there are Probes, or MinRequests if that is less, and then the ratios decide. A window of calls forgets nothing
	// while there are none. 0 means a window of time.
	Calls uint32
	// SlowAfter makes answers slow that take longer. 0 means that none is too slow.
	SlowAfter time.Duration
	// SlowFactor makes answers slow that take longer than so many times the 99th percentile of those 10 to 20 s before. It
	// does not count on probation: a service that stays slow is usual after a while. 0 means that none is too slow.
	SlowFactor float64
	// SlowRatio of slow answers in the window opens the breaker, once there are MinRequests. 0 means 0.5.
	SlowRatio float64
	// OpenFor is how long the breaker stays open before it lets probes through. 0 means 1 s. The time doubles whenever they
	// fail, up to MaxOpenFor, and is OpenFor again after the breaker was closed.
	OpenFor time.Duration
	// MaxOpenFor is the longest time. 0 means 60 s, or OpenFor if that is more.
	MaxOpenFor time.Duration
	// Jitter is the share of the time that is left out at random, so that clients that failed together do not come back
	// together. 0 means 0.2; less than 0 means none.
	Jitter float64
	// Probes is the number of attempts let through at a time after that, at most 1,000; as many successes close the
	// breaker, one failure or answer that took longer than SlowAfter opens it again. 0 means 1.
	Probes uint32
	// Lease is how long a probe may take before its permit goes to another attempt. It should be longer than any attempt
	// takes. 0 means 10 s.
	Lease time.Duration
	// Seed is that of the jitter, for reproducible runs. 0 means a random one.
	Seed uint64
}

const (
	// minWindow leaves a millisecond for each bucket; in less time nobody fails often enough to tell.
	minWindow = 10 * time.Millisecond
	// maxWindow is far beyond what says anything of the present. Near the largest time.Duration buckets cannot be counted.
	maxWindow = 24 * time.Hour
	// maxCalls bounds what a breaker takes, a byte for each; ten times less would do for most, too.
	maxCalls  = 100_000
	maxProbes = 1000
)

// WithDefaults returns the configuration as a breaker takes it: with the defaults in place of fields that are 0, and those
// out of range brought into it.
func (c BreakerConfig) WithDefaults() BreakerConfig { return c.withDefaults() }

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
	c.Window = min(c.Window, maxWindow)
	c.Calls = min(c.Calls, maxCalls)
	if !(c.SlowRatio > 0 && c.SlowRatio <= 1) {
		c.SlowRatio = 0.5
	}
	if c.OpenFor <= 0 {
		c.OpenFor = time.Second
	}
	if c.MaxOpenFor <= 0 {
		c.MaxOpenFor = time.Minute
	}
	c.MaxOpenFor = max(c.MaxOpenFor, c.OpenFor)
	switch {
	case c.Jitter < 0:
		c.Jitter = 0
	case !(c.Jitter > 0 && c.Jitter <= 1):
		c.Jitter = 0.2
	}
	if c.Probes == 0 {
		c.Probes = 1
	}
	c.Probes = min(c.Probes, maxProbes)
	if c.Lease <= 0 {
		c.Lease = 10 * time.Second
	}
	return c
}

// Validate reports every field that makes no sense.
func (c BreakerConfig) Validate() error {
	var errs []error
	check := func(ok bool, field, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(field+": "+format, args...))
		}
	}
	check(c.Ratio >= 0 && c.Ratio <= 1, "ratio", "must be between 0 and 1, got %v", c.Ratio)
	check(c.Window == 0 || c.Window >= minWindow && c.Window <= maxWindow, "window", "must be between %v and %v, got %v", minWindow, maxWindow, c.Window)
	check(c.Calls <= maxCalls, "calls", "must be at most %d, got %d", maxCalls, c.Calls)
	check(c.SlowAfter >= 0, "slowAfter", "must not be negative, got %v", c.SlowAfter)
	check(c.SlowFactor == 0 || c.SlowFactor >= 1 && c.SlowFactor <= 1000, "slowFactor", "must be between 1 and 1000, got %v", c.SlowFactor)
	check(c.SlowRatio >= 0 && c.SlowRatio <= 1, "slowRatio", "must be between 0 and 1, got %v", c.SlowRatio)
	check(c.OpenFor >= 0, "openFor", "must not be negative, got %v", c.OpenFor)
	check(c.MaxOpenFor == 0 || c.MaxOpenFor >= c.OpenFor && c.MaxOpenFor > 0, "maxOpenFor", "must not be less than openFor (%v), got %v", c.OpenFor, c.MaxOpenFor)
	check(c.Jitter <= 1 && !math.IsInf(c.Jitter, -1), "jitter", "must not be above 1, got %v", c.Jitter)
	check(c.Probes <= maxProbes, "probes", "must be at most %d, got %d", maxProbes, c.Probes)
	check(c.Lease >= 0, "lease", "must not be negative, got %v", c.Lease)
	return errors.Join(errs...)
}

// measures reports whether it matters how long answers take.
func (c *BreakerConfig) measures() bool { return c.SlowAfter > 0 || c.SlowFactor > 0 }

// tooMany reports whether a breaker is to open with so many failures and slow answers of all. Divided, since 0.07*100 is
// more than 7.
func (c *BreakerConfig) tooMany(failed, slow, all uint32) bool {
	return float64(failed)/float64(all) >= c.Ratio || c.measures() && float64(slow)/float64(all) >= c.SlowRatio
}

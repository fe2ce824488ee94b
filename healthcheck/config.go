package healthcheck

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Config is the set-up of a Runner. The zero value is the default.
type Config struct {
	// Interval is the time between the starts of two checks of an endpoint that passes them. 0 means 10 s.
	Interval time.Duration
	// FastInterval is that for an endpoint that fails them, or whose last result contradicts those before. 0 means a
	// fifth of Interval.
	FastInterval time.Duration
	// IdleInterval is that for all endpoints while nobody uses the service. 0 means 60 s, as in Envoy, or
	// Interval if that is more.
	IdleInterval time.Duration
	// Timeout bounds a check. 0 means 1 s.
	Timeout time.Duration
	// Jitter is the part of an interval that may be added to it at random, so that the callers of an endpoint do not
	// check it together. 0 means 0.1, less than 0 none.
	Jitter float64
	// Spread is the time within which a new endpoint is first checked, at random, so that callers that start together
	// and all endpoints of a caller that starts are not checked together. 0 means Interval, less than 0 at once.
	Spread time.Duration
	// Healthy is how many checks in a row an endpoint must pass to be well again, Unhealthy how many it must fail to be
	// so no longer. 0 means 2 and 3. The first check of an endpoint decides alone.
	Healthy, Unhealthy int
	// Unproven says that a new endpoint fails until it has passed its first check.
	Unproven bool
	// InFlight is how many checks are made at a time at most. 0 means 50.
	InFlight int
	// Rate is how many checks are begun per second at most. 0 means 200. Endpoints that are too many for it are checked less
	// often.
	Rate float64
	// Rand is the source of random words. It must be safe for concurrent use. nil means math/rand/v2.
	Rand func() uint64
}

// leastInterval keeps a number without a unit, which is one of nanoseconds, from becoming an attack.
const leastInterval = 10 * time.Millisecond

func (c Config) withDefaults() Config {
	set := func(v *time.Duration, def, least time.Duration) {
		if *v <= 0 {
			*v = def
		}
		*v = max(*v, least)
	}
	set(&c.Interval, 10*time.Second, leastInterval)
	set(&c.FastInterval, c.Interval/5, leastInterval)
	set(&c.IdleInterval, 60*time.Second, c.Interval)
	set(&c.Timeout, time.Second, time.Millisecond)
	if c.Jitter == 0 || c.Jitter != c.Jitter {
		c.Jitter = 0.1
	}
	c.Jitter = min(max(c.Jitter, 0), 1)
	if c.Spread == 0 {
		c.Spread = c.Interval
	}
	c.Spread = max(c.Spread, 0)
	count := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	count(&c.Healthy, 2)
	count(&c.Unhealthy, 3)
	count(&c.InFlight, 50)
	if !(c.Rate > 0) {
		c.Rate = 200
	}
	if c.Rand == nil {
		c.Rand = rand.Uint64
	}
	return c
}

// Validate names the first field that makes no sense. A Runner takes such a field for 0 or for its bound.
func (c Config) Validate() error {
	for _, f := range []struct {
		field string
		value time.Duration
		least time.Duration
	}{
		{"interval", c.Interval, leastInterval}, {"fastInterval", c.FastInterval, leastInterval},
		{"idleInterval", c.IdleInterval, max(c.Interval, leastInterval)}, {"timeout", c.Timeout, time.Millisecond},
	} {
		if f.value != 0 && f.value < f.least {
			return fmt.Errorf("%s: must be at least %v, got %v", f.field, f.least, f.value)
		}
	}
	switch {
	case !(c.Jitter <= 1):
		return fmt.Errorf("jitter: must not be above 1, got %v", c.Jitter)
	case c.Healthy < 0:
		return fmt.Errorf("healthy: must not be negative, got %d", c.Healthy)
	case c.Unhealthy < 0:
		return fmt.Errorf("unhealthy: must not be negative, got %d", c.Unhealthy)
	case c.InFlight < 0 || c.InFlight > 10_000:
		return fmt.Errorf("inFlight: must be between 0 and 10000, got %d", c.InFlight)
	case c.Rate != 0 && !(c.Rate >= 0.01 && c.Rate <= 100_000):
		return fmt.Errorf("rate: must be between 0.01 and 100000, got %v", c.Rate)
	}
	return nil
}

// state is what the checks of one endpoint have found.
type state struct {
	known   bool // there was a check
	passing bool
	against int // results in a row that contradict passing
}

// take takes in a result.
func (s *state) take(c *Config, passed bool) {
	if !s.known { // nothing speaks against it
		*s = state{known: true, passing: passed}
		return
	}
	if passed == s.passing {
		s.against = 0
		return
	}
	s.against++
	need := c.Unhealthy
	if passed {
		need = c.Healthy
	}
	if s.against >= need {
		s.passing, s.against = passed, 0
	}
}

// wait returns how long after the start of the last check the next one is due, given a random word.
func (s *state) wait(c *Config, idle bool, r uint64) time.Duration {
	d := c.Interval
	switch {
	case idle:
		d = c.IdleInterval
	case !s.passing || s.against > 0:
		d = c.FastInterval
	}
	return d + part(time.Duration(float64(d)*c.Jitter), r)
}

// part returns a part of d, given a random word.
func part(d time.Duration, r uint64) time.Duration {
	return time.Duration(float64(d) * float64(r>>11) / (1 << 53))
}

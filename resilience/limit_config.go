package resilience

import (
	"errors"
	"fmt"
	"time"
)

// LimitConfig says how many calls may be in flight at once, and what becomes of those that are too many.
type LimitConfig struct {
	// Algorithm is how the limit is found: "fixed", which "" means, has it at Max. "aimd" raises it while calls succeed and
	// lowers it when a share of them goes wrong, whatever the size of the service: 9 in 100 that are refused for overload or
	// fail after Timeout, or 29 in 100 that succeed after it. "gradient" lowers it when calls take longer than they do without
	// queue; it is for those who see all or most of the load, which servers do.
	Algorithm string
	// Max is the largest limit. 0 means 1024, Envoy's default, or 1000 if the limit adapts, which is that of Envoy, too.
	Max int
	// Min is the least that an adaptive limit falls to. 0 means 3, Envoy's default, or Max if that is less.
	Min int
	// Initial is where an adaptive limit starts. 0 means 20, Netflix's default, brought into what Min and Max allow. It doubles
	// within a few times what calls take while it is in use and all goes well, so that only services that need hundreds
	// of places at once need more.
	Initial int
	// Timeout is how long a call may take for "aimd", best half of what callers wait: with all of that, a tenth of the work is
	// for those who have left. 0 means 5 s, Netflix's default.
	Timeout time.Duration
	// Queue is how many calls may wait for a place. 0 means none.
	Queue int
	// MaxWait is how long a call may wait. 0 means 1 s, less than 0 as long as its deadline allows.
	MaxWait time.Duration
	// Patience is how long calls of one level may wait without a break before the newest ones go first. 0 means 100 ms, less
	// than 0 that the oldest always go first. Shorter than a usual burst it would be unfair for nothing; what is longer than
	// callers wait saves nobody.
	Patience time.Duration
	// Observe lets every call in. Enter says what would become of it otherwise: one that is Refused is in flight all the
	// same, and owes Leave.
	Observe bool
}

const (
	defaultMaxInFlight  = 1024
	defaultMaxAdaptive  = 1000
	defaultMinLimit     = 3
	defaultInitialLimit = 20
	defaultLimitTimeout = 5 * time.Second
	defaultMaxWait      = time.Second
	defaultPatience     = 100 * time.Millisecond
	// mostInFlight and mostQueued bound what can be asked for, so that a number with a digit too many is found.
	mostInFlight = 1_000_000
	mostQueued   = 100_000
)

// Validate reports every field that makes no sense.
func (c LimitConfig) Validate() error {
	var errs []error
	fail := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
	}
	switch c.Algorithm {
	case "", "fixed", "aimd", "gradient":
	default:
		fail("algorithm", `must be "fixed", "aimd" or "gradient", got %q`, c.Algorithm)
	}
	for _, f := range []struct {
		field string
		value int
		most  int
	}{{"max", c.Max, mostInFlight}, {"min", c.Min, mostInFlight}, {"initial", c.Initial, mostInFlight}, {"queue", c.Queue, mostQueued}} {
		if f.value < 0 || f.value > f.most {
			fail(f.field, "must be between 0 and %d, got %d", f.most, f.value)
		}
	}
	if c.Max > 0 && c.Min > c.Max {
		fail("min", "must not be more than max (%d), got %d", c.Max, c.Min)
	}
	if c.Max > 0 && c.Initial > c.Max {
		fail("initial", "must not be more than max (%d), got %d", c.Max, c.Initial)
	}
	if c.Initial > 0 && c.Initial < c.Min {
		fail("initial", "must not be less than min (%d), got %d", c.Min, c.Initial)
	}
	if c.Timeout < 0 {
		fail("timeout", "must not be negative, got %v", c.Timeout)
	}
	return errors.Join(errs...)
}

// WithDefaults returns the configuration as a limit takes it: with the defaults in place of fields that are 0, and those
// out of range brought into it.
func (c LimitConfig) WithDefaults() LimitConfig { return c.withDefaults() }

func (c LimitConfig) withDefaults() LimitConfig {
	if c.Max <= 0 {
		c.Max = defaultMaxAdaptive
		if c.Algorithm == "" || c.Algorithm == "fixed" {
			c.Max = defaultMaxInFlight
		}
	}
	if c.Min <= 0 {
		c.Min = defaultMinLimit
	}
	c.Max = min(c.Max, mostInFlight)
	c.Min = min(c.Min, c.Max)
	if c.Initial <= 0 {
		c.Initial = defaultInitialLimit
	}
	c.Initial = min(max(c.Initial, c.Min), c.Max)
	if c.Timeout <= 0 {
		c.Timeout = defaultLimitTimeout
	}
	c.Queue = min(max(c.Queue, 0), mostQueued)
	if c.MaxWait == 0 {
		c.MaxWait = defaultMaxWait
	}
	if c.Patience == 0 {
		c.Patience = defaultPatience
	}
	return c
}

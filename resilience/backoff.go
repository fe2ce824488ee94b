package resilience

import (
	"time"

	"github.com/cenkalti/backoff/v4"
)

// BackoffConfig is the pause before a retry: a random time between 0 and an interval that starts at Base and
// doubles up to Max ("full jitter"), so that clients that failed together do not come back together.
type BackoffConfig struct {
	// Base is the first interval. 0 means 25 ms.
	Base time.Duration
	// Max is the longest interval. 0 means 250 ms, or Base if that is more.
	Max time.Duration
}

const (
	defaultBackoffBase = 25 * time.Millisecond
	defaultBackoffMax  = 250 * time.Millisecond
)

// WithDefaults returns the configuration with the defaults in place of fields that are 0.
func (c BackoffConfig) WithDefaults() BackoffConfig {
	if c.Base <= 0 {
		c.Base = defaultBackoffBase
	}
	if c.Max <= 0 {
		c.Max = max(defaultBackoffMax, c.Base)
	}
	return c
}

// pause returns the wait before retry number n (1 is the first), drawn with the random word r.
func (c BackoffConfig) pause(n int, r uint64) time.Duration {
	c = c.WithDefaults()
	b := backoff.ExponentialBackOff{
		InitialInterval: c.Base,
		MaxInterval:     c.Max,
		Multiplier:      2,
		// The jitter is drawn below, from the caller's source, so that a seed reproduces a run.
		RandomizationFactor: 0,
		MaxElapsedTime:      0,
		Clock:               backoff.SystemClock,
	}
	b.Reset()
	d := b.NextBackOff()
	for ; n > 1; n-- {
		d = b.NextBackOff()
	}
	return time.Duration(float64(min(d, c.Max)) * unit(r))
}

// unit maps a random word to [0, 1).
func unit(r uint64) float64 { return float64(r>>11) / (1 << 53) }

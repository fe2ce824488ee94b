package zerohop

import (
	"errors"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// Breaker is a circuit breaker of each endpoint or of a service: it stops calling what fails, for a while that doubles as long
// as it goes on to fail, and then lets a few attempts probe whether it does. Failures are those of resilience.Outcome:
// not what the service says to tell the caller that he is wrong, not that it has too much to do, nor what the
// caller gave up. See resilience.BreakerConfig for the fields.
type Breaker struct {
	// Mode switches the breaker. The built-in default is Off: the balancer avoids failing endpoints
	// without one. Switch it on to stop calling an endpoint altogether. For the breaker of a service there is Observe, too.
	Mode Switch `json:"mode,omitempty" yaml:"mode,omitempty"`
	// Consecutive failures that open it. The built-in default is 5 for an endpoint. For a service it is so many that only ratios
	// matter: five calls in a row may all have been bound to the same endpoint.
	Consecutive uint32 `json:"consecutive,omitempty" yaml:"consecutive,omitempty"`
	// Ratio of failures that opens it. The built-in default is 0.5.
	Ratio float64 `json:"ratio,omitempty" yaml:"ratio,omitempty"`
	// MinRequests is the volume below which ratios say nothing. The built-in default is 20.
	MinRequests uint32 `json:"minRequests,omitempty" yaml:"minRequests,omitempty"`
	// Window is the time over which failures count, between 10 ms and 24 h. The built-in default is 10 s.
	Window time.Duration `json:"window,omitempty" yaml:"window,omitempty"`
	// Calls makes the last so many calls the window, with the rules of Resilience4j. 0 inherits; the built-in default is a
	// window of time.
	Calls uint32 `json:"calls,omitempty" yaml:"calls,omitempty"`
	// SlowAfter makes answers slow that take longer. 0 inherits; the built-in default is that none is too slow.
	SlowAfter time.Duration `json:"slowAfter,omitempty" yaml:"slowAfter,omitempty"`
	// SlowFactor makes answers slow that take so many times longer than the 99th percentile a while ago. 0 inherits; the
	// built-in default is that none is too slow.
	SlowFactor float64 `json:"slowFactor,omitempty" yaml:"slowFactor,omitempty"`
	// SlowRatio of slow answers that opens it. The built-in default is 0.5.
	SlowRatio float64 `json:"slowRatio,omitempty" yaml:"slowRatio,omitempty"`
	// OpenFor is the time until the first probe, less the Jitter. The built-in default is 1 s. It doubles each time that the
	// probes fail.
	OpenFor time.Duration `json:"openFor,omitempty" yaml:"openFor,omitempty"`
	// MaxOpenFor is the longest time. The built-in default is 60 s, or OpenFor if that is more.
	MaxOpenFor time.Duration `json:"maxOpenFor,omitempty" yaml:"maxOpenFor,omitempty"`
	// Jitter is the share of the time that is left out at random. 0 inherits; the built-in default is 0.2; less than 0 means
	// none.
	Jitter float64 `json:"jitter,omitempty" yaml:"jitter,omitempty"`
	// Probes let through at a time after that. The built-in default is 1.
	Probes uint32 `json:"probes,omitempty" yaml:"probes,omitempty"`
}

func (b Breaker) over(wide Breaker) Breaker {
	return Breaker{
		Mode: pick(b.Mode, wide.Mode), Consecutive: pick(b.Consecutive, wide.Consecutive), Ratio: pick(b.Ratio, wide.Ratio),
		MinRequests: pick(b.MinRequests, wide.MinRequests), Window: pick(b.Window, wide.Window), Calls: pick(b.Calls, wide.Calls),
		SlowAfter: pick(b.SlowAfter, wide.SlowAfter), SlowFactor: pick(b.SlowFactor, wide.SlowFactor),
		SlowRatio: pick(b.SlowRatio, wide.SlowRatio), OpenFor: pick(b.OpenFor, wide.OpenFor),
		MaxOpenFor: pick(b.MaxOpenFor, wide.MaxOpenFor), Jitter: pick(b.Jitter, wide.Jitter), Probes: pick(b.Probes, wide.Probes),
	}
}

// minLease is the least time that a probe has: what hangs longer than that is as good as lost.
const minLease = 10 * time.Second

// config returns the set-up of a breaker for calls under the policy.
func (b Breaker) config(p *Policy) resilience.BreakerConfig {
	return resilience.BreakerConfig{
		Consecutive: b.Consecutive, Ratio: b.Ratio, MinRequests: b.MinRequests, Window: b.Window, Calls: b.Calls,
		SlowAfter: b.SlowAfter, SlowFactor: b.SlowFactor, SlowRatio: b.SlowRatio,
		OpenFor: b.OpenFor, MaxOpenFor: b.MaxOpenFor, Jitter: b.Jitter, Probes: b.Probes,
		Lease: max(minLease, 2*pick(p.AttemptTimeout, p.Timeout)),
	}
}

// validate reports every mistake of the breaker of an endpoint.
func (b Breaker) validate(path string) error {
	return errors.Join(b.Mode.switching(path+".mode"), b.validateRest(path))
}

// validateService reports every mistake of the breaker of a service.
func (b Breaker) validateService(path string) error {
	return errors.Join(b.Mode.refusing(path+".mode"), b.validateRest(path))
}

func (b Breaker) validateRest(path string) error {
	return under(path, b.config(&Policy{}).Validate())
}

package loadbalance

import (
	"fmt"
	"math"
	"time"
)

// OutlierConfig says when an endpoint is ejected, which is to say taken out of service because it fails more than it
// should, and for how long. An ejection lasts twice as long as the one before, up to a limit. When it is over one call
// probes the endpoint: a success returns it to service and a failure ejects it again. Answers that say that the
// endpoint is overloaded count neither as failures nor as successes, because an endpoint that asks for less is not dead,
// and its calls would only overload the others.
//
// The zero value is the default: Linkerd's unified failure accrual, with a ceiling on how many may be ejected at once.
type OutlierConfig struct {
	// Consecutive is how many failures in a row eject an endpoint. 0 means 5, less than 0 that none do.
	Consecutive int
	// FailureRatio is the share of failures within Window above which an endpoint is ejected, from MinResponses on, if it
	// is also half as much again as the siblings' share: where all fail alike it is the service that fails. 0 means 0.2,
	// less than 0 that none ejects.
	FailureRatio float64
	// MinResponses is the number of responses within Window below which FailureRatio and Latency say nothing. 0 means 5.
	MinResponses int
	// Deviations ejects an endpoint whose success rate is more than so many standard deviations below the mean of the
	// siblings, as Envoy and gRPC do with 1.9 (gRFC A50). It compares endpoints with at least MinVolume responses within
	// Window, once MinHosts have them. 0 means that it is not looked at. With k equally bad endpoints of n it can
	// find them only if k/n < 1/(1 + Deviations^2), 22 % at 1.9, so it is no replacement for FailureRatio.
	Deviations float64
	// MinHosts is how many endpoints Deviations and Latency need for a comparison. 0 means 5; the least is 3.
	MinHosts int
	// MinVolume is how many responses within Window an endpoint needs to be compared by Deviations. 0 means 100.
	MinVolume int
	// Latency ejects an endpoint whose latency, averaged over about 16 responses, is more than so many times the median of
	// the siblings. 0 means that it is not looked at; the least is 1.5. Algorithms that look at latency or load need no such help.
	Latency float64
	// Window is the time over which responses count. 0 means 10 s; the least is 100 ms.
	Window time.Duration
	// Ejection is how long the first ejection lasts at most. 0 means 1 s. Every Window in service takes one doubling back.
	Ejection time.Duration
	// MaxEjection bounds all later ones. 0 means 60 s, or Ejection if that is more.
	MaxEjection time.Duration
	// Jitter is the share of an ejection that may be left out at random, so that the clients of an endpoint do not
	// return together. 0 means 0.5, less than 0 none; the most is 1.
	Jitter float64
	// MaxEjected is the largest share of the endpoints that may be ejected, the one about to be included. The last
	// endpoint is never ejected. 0 means 0.5. Below 1/n it ejects none of n endpoints; see One.
	MaxEjected float64
	// Linear makes each ejection longer than the one before by Ejection, as Envoy and gRPC do, instead of twice as long.
	Linear bool
	// Absolute takes the thresholds as they stand, as Envoy, gRPC and Linkerd do, however the siblings fare. Without it it takes
	// more than Consecutive where the siblings fail so often that a run may be chance, FailureRatio must exceed theirs, and
	// where most fail, or more than MaxEjected, ejections are cut to the shortest, so that all are back soon after the
	// service has recovered.
	Absolute bool
	// One allows the ejection of one endpoint, if there is another, where MaxEjected allows none.
	One bool
}

// WithDefaults returns the configuration as a Balancer takes it: with the defaults in place of fields that are 0, and those
// out of range brought into it.
func (c OutlierConfig) WithDefaults() OutlierConfig { return c.withDefaults() }

func (c OutlierConfig) withDefaults() OutlierConfig {
	set := func(v *time.Duration, def, least time.Duration) {
		if *v <= 0 {
			*v = def
		}
		*v = max(*v, least)
	}
	ratio := func(v *float64, def float64) {
		if *v == 0 || *v != *v {
			*v = def
		}
		*v = min(*v, 1)
	}
	if c.Consecutive == 0 {
		c.Consecutive = 5
	}
	ratio(&c.FailureRatio, 0.2)
	if c.MinResponses <= 0 {
		c.MinResponses = 5
	}
	if !(c.Deviations > 0) {
		c.Deviations = 0
	}
	if c.MinHosts <= 0 {
		c.MinHosts = 5
	}
	c.MinHosts = max(c.MinHosts, 3)
	if c.MinVolume <= 0 {
		c.MinVolume = 100
	}
	if !(c.Latency > 0) {
		c.Latency = 0
	} else {
		c.Latency = max(c.Latency, 1.5)
	}
	set(&c.Window, 10*time.Second, 100*time.Millisecond)
	set(&c.Ejection, time.Second, time.Millisecond)
	set(&c.MaxEjection, 60*time.Second, c.Ejection)
	ratio(&c.Jitter, 0.5)
	c.Jitter = max(c.Jitter, 0)
	ratio(&c.MaxEjected, 0.5)
	return c
}

// Validate names the first field that makes no sense. A Balancer takes such a field for 0 or for its bound.
func (c OutlierConfig) Validate() error {
	bad := func(x, least, most float64) bool { return !(x >= least && x <= most) }
	switch {
	case bad(c.FailureRatio, math.Inf(-1), 1):
		return fmt.Errorf("failureRatio: must not be above 1, got %v", c.FailureRatio)
	case c.MinResponses < 0:
		return fmt.Errorf("minResponses: must not be negative, got %d", c.MinResponses)
	case bad(c.Deviations, 0, 100):
		return fmt.Errorf("deviations: must be between 0 and 100, got %v", c.Deviations)
	case c.MinHosts < 0 || c.MinHosts > 0 && c.MinHosts < 3:
		return fmt.Errorf("minHosts: must be at least 3, got %d", c.MinHosts)
	case c.MinVolume < 0:
		return fmt.Errorf("minVolume: must not be negative, got %d", c.MinVolume)
	case c.Latency != 0 && bad(c.Latency, 1.5, 1e6):
		return fmt.Errorf("latency: must be between 1.5 and a million, got %v", c.Latency)
	case c.Window < 0 || c.Window > 0 && c.Window < 100*time.Millisecond:
		return fmt.Errorf("window: must be at least 100ms, got %v", c.Window)
	case c.Ejection < 0 || c.Ejection > 0 && c.Ejection < time.Millisecond:
		return fmt.Errorf("ejection: must be at least 1ms, got %v", c.Ejection)
	case c.MaxEjection < 0:
		return fmt.Errorf("maxEjection: must not be negative, got %v", c.MaxEjection)
	case c.MaxEjection > 0 && c.MaxEjection < c.Ejection:
		return fmt.Errorf("maxEjection: must not be less than ejection (%v), got %v", c.Ejection, c.MaxEjection)
	case bad(c.Jitter, math.Inf(-1), 1):
		return fmt.Errorf("jitter: must not be above 1, got %v", c.Jitter)
	case bad(c.MaxEjected, 0, 1):
		return fmt.Errorf("maxEjected: must be between 0 and 1, got %v", c.MaxEjected)
	}
	return nil
}

// mayEject reports whether one more of n endpoints may be ejected when so many are. It counts that one: asking
// whether the ceiling is reached yet, as gRPC and Envoy do, ejects three of three at a ceiling of 67 %.
func (c *OutlierConfig) mayEject(ejected, n int) bool {
	after := ejected + 1
	return after < n && (float64(after) <= c.MaxEjected*float64(n)*(1+1e-9) || c.One && after == 1)
}

// duration returns how long the ejection lasts that follows so many others, given a random word.
func (c *OutlierConfig) duration(times int, r uint64) time.Duration {
	d := c.MaxEjection
	if c.Linear {
		if c.Ejection < c.MaxEjection/time.Duration(times+1) {
			d = c.Ejection * time.Duration(times+1)
		}
	} else if times < 40 && c.Ejection < c.MaxEjection>>times {
		d = c.Ejection << times
	}
	return max(d-time.Duration(float64(d)*c.Jitter*float64(r>>11)/(1<<53)), 1)
}

package zerohop

import (
	"time"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// State is what a mesh knows at one moment: plain data for pages, tests and metrics. Names in it may come from registries: escape
// them.
type State struct {
	// Time is when it was read. Parts of it are read one after another, while calls go on.
	Time time.Time
	// Zone is the zone of the process, empty if not known, and Instance its name.
	Zone, Instance string
	// Generation is the number of the Spec in force.
	Generation uint64
	// Services are sorted by name.
	Services []ServiceState
}

// ServiceState is what is known of one service.
type ServiceState struct {
	// Name is that of the service, and Balance that of its algorithm.
	Name, Balance string
	// Named says that the spec names it; else calls did.
	Named bool
	// Discovery is what is known of its source; the zero value if nobody has asked for its endpoints.
	Discovery DiscoveryState
	// Endpoints are those in use, sorted by address.
	Endpoints []EndpointState
	// LeftOut is how many endpoints Policy.Subset leaves to others.
	LeftOut int
	// Panicking says that too few endpoints are in service for ejections and failed checks to count.
	Panicking bool
	// Budget is the level of the retry budget, from 0 to 1; -1 if there is none. RetriesPaused is until when an operator has paused
	// retries and backups; zero if none has.
	Budget        float64
	RetriesPaused time.Time
	// Breaker is the state of the breaker of the service, empty if there is none; BreakerUntil is when it probes, zero if it is not
	// open. BreakerForced is until when an operator has set it, zero if none has.
	Breaker       resilience.BreakerState
	BreakerUntil  time.Time
	BreakerForced time.Time
	// Throttle is the share of attempts that throttling refuses, from 0 to 1; -1 if there is none.
	Throttle float64
	// Limit is that of calls in flight, nil if there is none.
	Limit *resilience.LimitState
}

// EndpointState is what is known of one endpoint.
type EndpointState struct {
	Addr, Zone string
	Priority   uint8
	// Weight is its share as the source has it; 0 counts as 1.
	Weight uint32
	// Share is the part of the picks that it is meant to get, from 0 to 1, as far as weights, ejections, priorities and zones say;
	// algorithms that look at load differ from it.
	Share float64
	// Health is what the source says: "healthy", "degraded" and so on, as discovery.Health has it.
	Health string
	// InFlight is how many attempts are in flight, and Cost the learned latency, 0 if there is none.
	InFlight int
	Cost     time.Duration
	// Picks is how many attempts went there since the endpoint was first in the set.
	Picks uint64
	// Penalized says that it failed or asked for a pause a moment ago.
	Penalized bool
	// EjectedUntil is when it is probed, zero if it is not ejected; Ejection is why.
	EjectedUntil time.Time
	Ejection     loadbalance.Cause
	// FailsChecks says that active health checks keep it out of service.
	FailsChecks bool
	// OutUntil is until when an operator has taken it out, zero if none has; Draining says that new calls are kept away but no
	// session is.
	OutUntil time.Time
	Draining bool
	// Breaker is the state of its breaker, empty if there is none; BreakerUntil is when it probes, zero if it is not open.
	Breaker      resilience.BreakerState
	BreakerUntil time.Time
	// Limit is how many attempts may be in flight, 0 if that is not limited.
	Limit int
	// SlowStart is the part of its share that it gets while it is new, 1 afterwards.
	SlowStart float64
	// Meta is its metadata; it is shared and read-only.
	Meta map[string]string
}

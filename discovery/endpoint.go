package discovery

import "maps"

// Health is what a source says about an endpoint. It is not what callers of the endpoint observe:
// that is kept by package loadbalance.
type Health uint8

const (
	// Healthy endpoints take traffic. It is the zero value: an endpoint that a source lists without
	// saying more is taken to be usable.
	Healthy Health = iota
	// Draining endpoints finish what they have begun and keep the sessions that are bound to them. They get new calls
	// only when nothing else serves.
	Draining
	// Unhealthy endpoints are known to the source and reported as failing. They get new calls only when
	// nothing else serves.
	Unhealthy
	// Terminating endpoints are about to be gone: they finish what they have begun, and sessions leave them. They get new
	// calls only when nothing else serves.
	Terminating
)

// String returns the lower-case name of the state.
func (h Health) String() string {
	switch h {
	case Healthy:
		return "healthy"
	case Draining:
		return "draining"
	case Unhealthy:
		return "unhealthy"
	case Terminating:
		return "terminating"
	default:
		return "unknown"
	}
}

// Endpoint is one instance of a service. Its identity is Addr: two endpoints with the same Addr are the
// same instance, whatever else they say.
//
// Endpoints are values, but Meta is shared: it must not be changed once the endpoint was handed on.
type Endpoint struct {
	// Addr is "host:port". An IPv6 host stands in brackets.
	Addr string
	// Weight is the share of traffic in relation to the other endpoints. 0 means 1. Run limits it to
	// 1,000,000, so that no source can overflow a sum, and takes 1 for what is above 2,147,483,647: a negative number that
	// was converted, or what a source sets for a weight that is no number. Dropped.Weight counts both.
	Weight uint32
	// Zone is the failure domain the endpoint runs in. Empty means unknown.
	Zone string
	// Priority is the failover level: endpoints of level 1 serve when level 0 has no healthy one.
	// 0 is the first level.
	Priority uint8
	// Health is what the source says. The zero value is Healthy.
	Health Health
	// Meta holds further attributes, for example a version. It may be nil and is read-only.
	Meta map[string]string
}

// Equal reports whether two endpoints are the same in every field. It does not take a Weight of 0 for one of 1.
func (e Endpoint) Equal(other Endpoint) bool {
	return e.Addr == other.Addr && e.Weight == other.Weight && e.Zone == other.Zone && e.Priority == other.Priority &&
		e.Health == other.Health && maps.Equal(e.Meta, other.Meta)
}

package sim

import (
	"fmt"
	"testing"
	"time"
)

// Result is what happened. The Series in it is that of the calls of all clients together.
type Result struct {
	*Series
	// Scenario is what was simulated, with its seed.
	Scenario Scenario
	// Clients are the calls of each of Scenario.Clients.
	Clients []*Series
	// Services are what became of each service.
	Services map[string]*ServiceResult
	// Events is how many events it took, and Hash stands for all that happened: it is the same only if the order is.
	Events, Hash uint64

	open int // breakers that are at the end
}

// ServiceResult is what a service saw.
type ServiceResult struct {
	// Attempts are those that all endpoints got. They are good if they were answered with success, whether anybody waited or
	// not, and their latency is the time that they spent at the endpoint.
	Attempts *Series
	// Endpoints are the attempts that each got.
	Endpoints []*Series
	// Calls are those made to other services.
	Calls *Series
}

// Share returns the part of the attempts on a service that one endpoint got; NaN if there were none.
func (s *ServiceResult) Share(endpoint int, from, to time.Duration) float64 {
	return float64(s.Endpoints[endpoint].Started(from, to)) / float64(s.Attempts.Started(from, to))
}

// Bounds are what a result is held to. Fields at 0 are not checked.
type Bounds struct {
	// From and To are when. To at 0 means the end.
	From, To time.Duration
	// Success is the least share of calls that end well, of those that end.
	Success float64
	// Goodput is the least number of calls that end well per second.
	Goodput float64
	// P50, P99 and P999 are the most that quantiles of latency may be.
	P50, P99, P999 time.Duration
	// Amplification is the most attempts per call.
	Amplification float64
	// Recovery is the longest time after From until goodput is 90 % of what is offered for three seconds in a row.
	Recovery time.Duration
}

// recovered is the share of what is offered that counts as recovered.
const recovered = 0.9

// Check reports every bound that the calls of all clients together break, and then what happened.
func (r *Result) Check(t testing.TB, b Bounds) {
	t.Helper()
	failures := r.Series.against(b)
	for _, f := range failures {
		t.Errorf("%s", f)
	}
	if len(failures) > 0 {
		t.Logf("seed %d\n%s", r.Scenario.Seed, r)
	}
}

// against returns how the series breaks the bounds.
func (s *Series) against(b Bounds) (failures []string) {
	to := b.To
	if to == 0 {
		to = s.span
	}
	least := func(what string, got, want float64) {
		if want > 0 && !(got >= want) {
			failures = append(failures, fmt.Sprintf("%s from %v to %v = %.4g, want at least %.4g", what, b.From, to, got, want))
		}
	}
	most := func(what string, got, want float64) {
		if want > 0 && !(got <= want) {
			failures = append(failures, fmt.Sprintf("%s from %v to %v = %.4g, want at most %.4g", what, b.From, to, got, want))
		}
	}
	least("success", s.Success(b.From, b.To), b.Success)
	least("goodput", s.Goodput(b.From, b.To), b.Goodput)
	for _, q := range []struct {
		what string
		q    float64
		want time.Duration
	}{{"p50 in seconds", 0.5, b.P50}, {"p99 in seconds", 0.99, b.P99}, {"p99.9 in seconds", 0.999, b.P999}} {
		most(q.what, s.Quantile(q.q, b.From, b.To).Seconds(), q.want.Seconds())
	}
	most("attempts per call", s.Amplification(b.From, b.To), b.Amplification)
	if b.Recovery > 0 {
		if d, ok := s.Recovery(b.From, recovered); !ok {
			failures = append(failures, fmt.Sprintf("no recovery after %v, want one within %v", b.From, b.Recovery))
		} else {
			most("seconds to recover", d.Seconds(), b.Recovery.Seconds())
		}
	}
	return failures
}

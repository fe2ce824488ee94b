package zerohop

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// Presets for Policy.Preset are the defaults of what people come from, as far as policies can express them: the numbers are
// those of its documentation. Where it has a feature that is off until somebody configures it, ejection above all, the
// preset has it on with the numbers that it then has: switch it off by its Mode. Nothing but the defaults changes. Calls that
// are not idempotent are not repeated unless they were provably not sent, endpoints that fail are avoided at once by
// algorithms that compare endpoints, ejected ones return by the probe of one call, and the last endpoint is never ejected.
const (
	// PresetEnvoy is Envoy: round robin by weight, a timeout of 15 s, no retries (one, if they are switched on), outlier
	// detection by 5 failures in a row or a success rate 1.9 standard deviations below the mean, for 30 s, then 60 s and so on
	// up to 300 s, of 10 % of the endpoints, which is none of nine; a panic threshold of 50 %, spill-over at 1.4, no slow start.
	// Least request compares two endpoints, drawn with replacement; hashing has no bound, a ring of 1,024 to 8,388,608
	// points and a table of 65,537.
	//
	// Its budget is 20 % of the requests under way, but at least 3.
	//
	// It cannot express: limits of 1,024 connections and requests; ejection
	// after gateway and local errors apart from others; intervals of back-off that grow by 2^N-1; zone-aware routing, which
	// needs to know the zones of all callers: Locality, which does not, is off.
	PresetEnvoy = "envoy"
	// PresetIstio is Istio: least request of two endpoints drawn with replacement, two retries, no timeout, 10 s to connect,
	// outlier detection by 5 failures in a row as in Envoy, calls that stay in the zone by health, and no panic threshold.
	//
	// The budget is that of Envoy.
	//
	// It cannot express: retries of requests that are not idempotent because of a status (503 in Istio), and regions and
	// sub-zones. Calls leave a zone that became slow, which Istio does not see.
	PresetIstio = "istio"
	// PresetLinkerd is Linkerd: the power of two choices on peak EWMA, no retries (one, if they are switched on), no
	// timeout, failure accrual by 7 failures in a row, for 1 s to 60 s with a jitter of a half, probed by one request, no ceiling
	// and no panic threshold. The budget is 20 % of the requests of the last 10 s, and 10 retries per second.
	//
	// It cannot express: the queue of 10,000 that fails after 3 s. Endpoints that fail are taken to cost 5 s, which Linkerd has
	// as an option; those that nothing is known of as much as the median of the others, not 30 ms. The zonal load balancing of
	// its enterprise edition is Locality, which is off here.
	PresetLinkerd = "linkerd"
	// PresetGRPC is gRPC with the policy round_robin, since its default, pick_first, sends all calls to one endpoint: no
	// retries (up to 5 attempts, if they are switched on), no timeout, outlier detection (gRFC A50) by a success rate 1.9 standard
	// deviations below the mean or more than 85 % of failures, for 30 s, then 60 s and so on up to 300 s, of 10 % of the
	// endpoints but at least one, priorities that spill over when nothing is left, a budget of 10 tokens (gRFC A6). Least
	// request compares two endpoints, drawn with replacement; hashing has no bound and a ring of 1,024 to 4,096 points.
	//
	// It cannot express: pick_first, the limit of 1,024 requests, and that failover to the next priority takes 10 s. More
	// than 85 % of failures eject an endpoint from 50 responses on, also where fewer than 5 endpoints have so many.
	PresetGRPC = "grpc"
	// PresetSpringCloud is Spring Cloud LoadBalancer and CircuitBreaker with Resilience4J: round robin, one retry on the next
	// instance without a pause and without a budget, no ejection, a circuit breaker of the service that opens for 60 s when 50 % of
	// the last 100 calls fail, or all take more than 60 s, and then lets 10 through, and a time limit of 1 s. Who has the load
	// balancer without the circuit breaker switches that off and sets a longer Timeout.
	//
	// It cannot express: round robin that takes no account of weights; that GET alone is repeated and not every idempotent
	// method, and only after errors of connections, not because of a status. The breaker
	// counts attempts, before they are repeated.
	PresetSpringCloud = "spring-cloud"
)

var presets = map[string]Policy{
	PresetEnvoy: {
		Balance:      "weighted-round-robin",
		LeastRequest: LeastRequest{Choices: 2, Replacement: On},
		Hashing:      Hashing{Bound: -1, MinRing: 1024, MaxRing: 8 << 20, Table: 65_537},
		Panic:        0.5, OverProvisioning: 1.4,
		Timeout:   15 * time.Second,
		Connect:   Connect{Timeout: 5 * time.Second},
		Retry:     Retry{Mode: Off, Attempts: 2, Base: 25 * time.Millisecond, Max: 250 * time.Millisecond},
		Budget:    Budget{Mode: On, Kind: resilience.BudgetConcurrent, Ratio: 0.2, Floor: 3},
		Backup:    Backup{Mode: Off},
		Outlier:   envoyOutlier(Outlier{Consecutive: 5, FailureRatio: -1, Deviations: 1.9, MinHosts: 5, MinVolume: 100, One: Off}),
		SlowStart: SlowStart{Mode: Off},
		Locality:  Locality{Mode: Off},
	},
	PresetIstio: {
		Balance:      "least-request",
		LeastRequest: LeastRequest{Choices: 2, Replacement: On},
		Hashing:      Hashing{Bound: -1, MinRing: 1024, MaxRing: 8 << 20, Table: 65_537},
		Panic:        -1, OverProvisioning: 1.4,
		Connect:   Connect{Timeout: 10 * time.Second},
		Retry:     Retry{Mode: On, Attempts: 3, Base: 25 * time.Millisecond, Max: 250 * time.Millisecond},
		Budget:    Budget{Mode: On, Kind: resilience.BudgetConcurrent, Ratio: 0.2, Floor: 3},
		Backup:    Backup{Mode: Off},
		Outlier:   envoyOutlier(Outlier{Consecutive: 5, FailureRatio: -1, One: Off}),
		SlowStart: SlowStart{Mode: Off},
		Locality:  Locality{Mode: On, High: 1e6}, // load moves no calls
	},
	PresetLinkerd: {
		Balance: "peak-ewma",
		Panic:   -1,
		Retry:   Retry{Mode: Off, Attempts: 2},
		Backup:  Backup{Mode: Off},
		Budget:  Budget{Mode: On, Kind: resilience.BudgetRatio, Ratio: 0.2, Floor: 10, Window: 10 * time.Second},
		Outlier: Outlier{
			Mode: On, Consecutive: 7, FailureRatio: -1, Ejection: time.Second, MaxEjection: 60 * time.Second,
			Jitter: 0.5, MaxEjected: 1, Absolute: On,
		},
		SlowStart: SlowStart{Mode: Off},
		Locality:  Locality{Mode: Off, Low: 0.8, High: 2},
	},
	PresetGRPC: {
		Balance:      "weighted-round-robin",
		LeastRequest: LeastRequest{Choices: 2, Replacement: On},
		Hashing:      Hashing{Bound: -1, MinRing: 1024, MaxRing: 4096},
		Panic:        -1, OverProvisioning: maxOverProvisioning,
		Retry:  Retry{Mode: Off, Attempts: 5},
		Budget: Budget{Mode: On, Kind: resilience.BudgetGRPC, Tokens: 10, Ratio: 0.1},
		Backup: Backup{Mode: Off},
		Outlier: envoyOutlier(Outlier{
			Consecutive: -1, FailureRatio: 0.85, MinResponses: 50, Deviations: 1.9, MinHosts: 5, MinVolume: 100, One: On,
		}),
		SlowStart: SlowStart{Mode: Off},
		Locality:  Locality{Mode: Off},
	},
	PresetSpringCloud: {
		Balance: "weighted-round-robin",
		Panic:   -1,
		Timeout: time.Second,
		Retry:   Retry{Mode: On, Attempts: 2, Base: 1, Max: 1}, // 0 would inherit
		Backup:  Backup{Mode: Off},
		Budget:  Budget{Mode: Off},
		ServiceBreaker: Breaker{
			Mode: On, Consecutive: math.MaxUint32, Ratio: 0.5, MinRequests: 100, Calls: 100,
			SlowAfter: 60 * time.Second, SlowRatio: 1, OpenFor: 60 * time.Second, MaxOpenFor: 60 * time.Second, Jitter: -1, Probes: 10,
		},
		Outlier:   Outlier{Mode: Off},
		SlowStart: SlowStart{Mode: Off},
		Locality:  Locality{Mode: Off},
	},
}

// envoyOutlier completes what says which endpoints are ejected with what Envoy and gRPC have in common.
func envoyOutlier(o Outlier) Outlier {
	o.Mode, o.Absolute, o.Linear = On, On, On
	o.Window, o.Ejection, o.MaxEjection = 10*time.Second, 30*time.Second, 300*time.Second
	o.Jitter, o.MaxEjected = -1, 0.1
	return o
}

// complete returns the policy of a service, given what the spec says of it.
func (s *Spec) complete(p Policy) Policy {
	p = p.over(s.Defaults)
	return p.over(presets[p.Preset]).over(builtin)
}

// validatePreset reports a name that does not exist.
func (p *Policy) validatePreset(path string) error {
	if _, ok := presets[p.Preset]; p.Preset == "" || ok {
		return nil
	}
	return fmt.Errorf("%s.preset: unknown preset %q, want one of %q", path, p.Preset, slices.Sorted(maps.Keys(presets)))
}

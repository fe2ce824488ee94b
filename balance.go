package zerohop

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
)

// LeastRequest is how Policy.Balance "least-request" compares endpoints; see loadbalance.LeastRequestConfig.
type LeastRequest struct {
	// Choices is how many endpoints are compared. 0 inherits; the built-in default is 2, the most is 10.
	Choices int `json:"choices,omitempty" yaml:"choices,omitempty"`
	// Replacement lets a choice fall on an endpoint that was drawn before, as in Envoy and gRPC. The built-in default is Off.
	Replacement Switch `json:"replacement,omitempty" yaml:"replacement,omitempty"`
}

func (l LeastRequest) config() loadbalance.LeastRequestConfig {
	return loadbalance.LeastRequestConfig{Choices: l.Choices, Replacement: l.Replacement == On}
}

func (l LeastRequest) over(wide LeastRequest) LeastRequest {
	return LeastRequest{Choices: pick(l.Choices, wide.Choices), Replacement: pick(l.Replacement, wide.Replacement)}
}

// Prequal is how Policy.Balance "prequal" judges what endpoints report of their load; see loadbalance.PrequalConfig.
type Prequal struct {
	// Quantile is the part of the endpoints that are compared by latency, those with fewer requests in flight than the
	// others. 0 inherits; the built-in default is 0.75, the most is 1; less than 0 means that only requests in flight count.
	Quantile float64 `json:"quantile,omitempty" yaml:"quantile,omitempty"`
	// Pool is how many endpoints are compared. 0 inherits; the built-in default is 8, the most is 16.
	Pool int `json:"pool,omitempty" yaml:"pool,omitempty"`
	// MaxAge is how long a report counts. 0 inherits; the built-in default is 1 s.
	MaxAge time.Duration `json:"maxAge,omitempty" yaml:"maxAge,omitempty"`
	// Probes is how many endpoints are asked for their load at most when a call was made, of those that have said nothing
	// for ProbeAge. 0 inherits; the built-in default is 3, the most is 16; less than 0 means none.
	Probes int `json:"probes,omitempty" yaml:"probes,omitempty"`
	// ProbeAge is how old the report of an endpoint is when it may be asked. 0 inherits; the built-in default is a
	// twentieth of MaxAge.
	ProbeAge time.Duration `json:"probeAge,omitempty" yaml:"probeAge,omitempty"`
	// ProbeTimeout is how long the answer to a probe is waited for, beside the calls. 0 inherits; the built-in default
	// is 3 ms.
	ProbeTimeout time.Duration `json:"probeTimeout,omitempty" yaml:"probeTimeout,omitempty"`
	// ProbeRate is how many probes are sent per second at most. 0 inherits; the built-in default is 500.
	ProbeRate float64 `json:"probeRate,omitempty" yaml:"probeRate,omitempty"`
}

func (q Prequal) config() loadbalance.PrequalConfig {
	return loadbalance.PrequalConfig{
		Quantile: q.Quantile, Pool: q.Pool, MaxAge: q.MaxAge,
		Probes: q.Probes, ProbeAge: q.ProbeAge, ProbeTimeout: q.ProbeTimeout, ProbeRate: q.ProbeRate,
	}
}

func (q Prequal) over(wide Prequal) Prequal {
	return Prequal{
		Quantile:     pick(q.Quantile, wide.Quantile),
		Pool:         pick(q.Pool, wide.Pool),
		MaxAge:       pick(q.MaxAge, wide.MaxAge),
		Probes:       pick(q.Probes, wide.Probes),
		ProbeAge:     pick(q.ProbeAge, wide.ProbeAge),
		ProbeTimeout: pick(q.ProbeTimeout, wide.ProbeTimeout),
		ProbeRate:    pick(q.ProbeRate, wide.ProbeRate),
	}
}

// Utilization is how Policy.Balance "utilization" weighs what endpoints report of their load; see
// loadbalance.UtilizationConfig.
type Utilization struct {
	// Blackout is how long an endpoint must have reported before its reports count. 0 inherits; the built-in default is 10 s;
	// less than 0 means no time.
	Blackout time.Duration `json:"blackout,omitempty" yaml:"blackout,omitempty"`
	// Expiration is how long a report counts. 0 inherits; the built-in default is 3 min.
	Expiration time.Duration `json:"expiration,omitempty" yaml:"expiration,omitempty"`
	// Update is the time after which new reports count. 0 inherits; the built-in default is 1 s, the least is 100 ms.
	Update time.Duration `json:"update,omitempty" yaml:"update,omitempty"`
	// ErrorPenalty is by how much an endpoint that fails all requests counts as busier. 0 inherits; the built-in default is
	// 1; less than 0 means that failures do not count.
	ErrorPenalty float64 `json:"errorPenalty,omitempty" yaml:"errorPenalty,omitempty"`
}

func (u Utilization) config() loadbalance.UtilizationConfig {
	return loadbalance.UtilizationConfig{
		Blackout: u.Blackout, Expiration: u.Expiration, Update: u.Update, ErrorPenalty: u.ErrorPenalty,
	}
}

func (u Utilization) over(wide Utilization) Utilization {
	return Utilization{
		Blackout:     pick(u.Blackout, wide.Blackout),
		Expiration:   pick(u.Expiration, wide.Expiration),
		Update:       pick(u.Update, wide.Update),
		ErrorPenalty: pick(u.ErrorPenalty, wide.ErrorPenalty),
	}
}

// Hashing is how Policy.Balance "rendezvous", "ring-hash" and "maglev" spread keys over endpoints; see
// loadbalance.HashConfig. Where the keys come from is in Policy.Hash.
type Hashing struct {
	// Bound is how many times the mean of calls in flight an endpoint may have before calls go to the next one for their
	// key. 0 inherits; the built-in default is 1.25, others must be above 1; less than 0 means no bound.
	Bound float64 `json:"bound,omitempty" yaml:"bound,omitempty"`
	// MinRing and MaxRing, where either is set, make the ring of "ring-hash" that of Envoy and gRPC with these sizes. 0
	// inherits; the most is 8,388,608. The built-in default is a ring of 128 to 256 points for each endpoint.
	MinRing int `json:"minRing,omitempty" yaml:"minRing,omitempty"`
	MaxRing int `json:"maxRing,omitempty" yaml:"maxRing,omitempty"`
	// Table is the least number of places in the table of "maglev". 0 inherits; the built-in default is 65,537, the most
	// is 5,000,011.
	Table int `json:"table,omitempty" yaml:"table,omitempty"`
}

func (h Hashing) config() loadbalance.HashConfig {
	c := loadbalance.HashConfig{Bound: h.Bound, MinRing: h.MinRing, MaxRing: h.MaxRing, Table: h.Table}
	if h.Bound < 0 {
		c.Bound = math.Inf(1)
	}
	return c
}

func (h Hashing) over(wide Hashing) Hashing {
	return Hashing{
		Bound:   pick(h.Bound, wide.Bound),
		MinRing: pick(h.MinRing, wide.MinRing),
		MaxRing: pick(h.MaxRing, wide.MaxRing),
		Table:   pick(h.Table, wide.Table),
	}
}

// balancers are the algorithms that a policy can name, as its parameters make them.
var balancers = map[string]func(*Policy) loadbalance.Builder{
	"peak-ewma":            func(*Policy) loadbalance.Builder { return loadbalance.PeakEWMA },
	"least-request":        func(p *Policy) loadbalance.Builder { return p.LeastRequest.config().LeastRequest },
	"prequal":              func(p *Policy) loadbalance.Builder { return p.Prequal.config().Prequal },
	"utilization":          func(p *Policy) loadbalance.Builder { return p.Utilization.config().RoundRobin },
	"weighted-round-robin": func(*Policy) loadbalance.Builder { return loadbalance.WeightedRoundRobin },
	"random":               func(*Policy) loadbalance.Builder { return loadbalance.Random },
	"rendezvous":           func(p *Policy) loadbalance.Builder { return p.Hashing.config().Rendezvous },
	"ring-hash":            func(p *Policy) loadbalance.Builder { return p.Hashing.config().Ring },
	"maglev":               func(p *Policy) loadbalance.Builder { return p.Hashing.config().Maglev },
}

// builder returns the algorithm of the policy. Algorithms of the user's own come first.
func (p *Policy) builder(own map[string]loadbalance.Builder) loadbalance.Builder {
	if b := own[p.Balance]; b != nil {
		return b
	}
	return balancers[p.Balance](p)
}

// hashes reports whether a built-in algorithm looks at keys.
func hashes(balance string) bool {
	return balance == "rendezvous" || balance == "ring-hash" || balance == "maglev"
}

// validateBalance reports the mistakes in the algorithm and its parameters.
func (p *Policy) validateBalance(path string, own map[string]loadbalance.Builder) error {
	var errs []error
	if p.Balance != "" && balancers[p.Balance] == nil && own[p.Balance] == nil {
		names := slices.Concat(slices.Collect(maps.Keys(own)), slices.Collect(maps.Keys(balancers)))
		errs = append(errs, fmt.Errorf("%s.balance: unknown algorithm %q, want one of %q", path, p.Balance, slices.Sorted(slices.Values(names))))
	}
	for _, s := range []struct {
		field string
		err   error
	}{
		{"leastRequest", p.LeastRequest.config().Validate()}, {"prequal", p.Prequal.config().Validate()},
		{"utilization", p.Utilization.config().Validate()}, {"hashing", p.Hashing.config().Validate()},
	} {
		if s.err != nil {
			errs = append(errs, fmt.Errorf("%s.%s.%w", path, s.field, s.err))
		}
	}
	return errors.Join(errs...)
}

// idle reports the parameters of a service that do nothing because it has another algorithm: most often the name of the
// algorithm was forgotten. In Spec.Defaults they wait for a service that has it.
func (p *Policy) idle(path, balance string, own map[string]loadbalance.Builder) error {
	var errs []error
	for _, s := range []struct {
		field string
		set   bool
		used  bool
	}{
		{"leastRequest", p.LeastRequest != LeastRequest{}, balance == "least-request"},
		{"prequal", p.Prequal != Prequal{}, balance == "prequal"},
		{"utilization", p.Utilization != Utilization{}, balance == "utilization"},
		{"hashing", p.Hashing != Hashing{}, hashes(balance)},
		{"hash", len(p.Hash) > 0 && own[balance] == nil, hashes(balance)}, // others may look at keys, too
	} {
		if s.set && (!s.used || own[balance] != nil) {
			errs = append(errs, fmt.Errorf("%s.%s: does nothing, as the service is balanced by %q", path, s.field, balance))
		}
	}
	return errors.Join(errs...)
}

// picking is the algorithm of a policy and its parameters.
type picking struct {
	balance      string
	leastRequest LeastRequest
	prequal      Prequal
	utilization  Utilization
	hashing      Hashing
}

func (p *Policy) picking() picking {
	return picking{p.Balance, p.LeastRequest, p.Prequal, p.Utilization, p.Hashing}
}

// keyed reports whether the algorithm of the policy may look at keys.
func (p *Policy) keyed(m *Mesh) bool { return hashes(p.Balance) || m.cfg.Balancers[p.Balance] != nil }

package zerohop

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/routing"
)

// Spec is the part of the configuration that is plain data and can be kept in a file. The zero value is
// valid: every service gets the built-in policy, and calls go to the service they name.
//
// Package config reads it from YAML and JSON, strictly and with durations such as "250ms" in both. To encoding/json durations
// are numbers of nanoseconds, and fields that do not exist are no mistake.
type Spec struct {
	// Defaults apply to all services.
	Defaults Policy `json:"defaults,omitzero" yaml:"defaults,omitempty"`
	// Services are the policies of services by name. To name a service here, be it with an empty policy,
	// makes its name a service for every transport, also when it looks like a host, and has its endpoints
	// looked up at once. Case does not matter to callers; the resolver gets the name as it is written here, and in
	// lower case if it is not.
	Services map[string]Policy `json:"services,omitempty" yaml:"services,omitempty"`
	// Routes send calls to other services than the one they name, or give them another policy.
	Routes []routing.Rule `json:"routes,omitempty" yaml:"routes,omitempty"`
	// Policies are the policies that routes name. They refine that of the service the call goes to.
	Policies map[string]Policy `json:"policies,omitempty" yaml:"policies,omitempty"`
}

// maxNameLength is that of a DNS name.
const maxNameLength = 253

// Validate reports every mistake in the spec, each with the path of its field, for example
// "services.orders.retry.attempts: must be between 1 and 5, got 9". Names in Config.Balancers
// and Config.Checkers are known to New only.
func (s Spec) Validate() error { return errors.Join(s.validate(nil), s.validateCheckers(nil, false)) }

func (s Spec) validate(own map[string]loadbalance.Builder) error {
	if err := s.bounded(); err != nil {
		return err
	}
	errs := []error{s.validateDefaults(own), s.validateFallbacks()}
	keys := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(s.Services)) {
		if other, ok := keys[strings.ToLower(name)]; ok {
			errs = append(errs, fmt.Errorf("services: %q and %q differ in case only", other, name))
		}
		keys[strings.ToLower(name)] = name
		if name == "" || len(name) > maxNameLength {
			errs = append(errs, fmt.Errorf("services: a name must have 1 to %d bytes, got %q", maxNameLength, name))
			continue
		}
		p, path := s.Services[name], "services."+name
		whole := s.complete(p)
		err := p.validate(path, own)
		if err == nil && errs[0] == nil {
			err = errors.Join(whole.validate(path, own), whole.RateLimit.lacking(path+".rateLimit")) // what it sets may contradict what it inherits
		}
		errs = append(errs, err, p.idle(path, whole.Balance, own))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Policies)) {
		if name == "" {
			errs = append(errs, errors.New("policies: a name must not be empty, which no route can refer to"))
		}
		p, path := s.Policies[name], "policies."+name
		errs = append(errs, p.validate(path, own), RateLimit{Mode: p.RateLimit.Mode, Rate: pick(p.RateLimit.Rate, s.Defaults.RateLimit.Rate)}.lacking(path+".rateLimit"))
		for _, f := range []struct {
			field string
			set   bool
		}{
			{"preset", p.Preset != ""}, {"prequal", p.Prequal != Prequal{}}, {"utilization", p.Utilization != Utilization{}}, {"subset", p.Subset != 0}, {"panic", p.Panic != 0},
			{"overProvisioning", p.OverProvisioning != 0}, {"connect", p.Connect != Connect{}},
			{"breaker", p.Breaker != Breaker{}}, {"serviceBreaker", p.ServiceBreaker != Breaker{}},
			{"endpointLimit", p.EndpointLimit != EndpointLimit{}}, {"throttle", p.Throttle != Throttle{}},
			{"outlier", p.Outlier != Outlier{}}, {"slowStart", p.SlowStart != SlowStart{}}, {"locality", p.Locality != Locality{}},
			{"healthCheck", p.HealthCheck != HealthCheck{}},
		} {
			if f.set {
				errs = append(errs, fmt.Errorf("%s.%s: belongs to a service, not to a route", path, f.field))
			}
		}
		switch {
		case p.Balance == "":
		case (p.Balance == "prequal" || p.Balance == "utilization") && own[p.Balance] == nil:
			errs = append(errs, fmt.Errorf("%s.balance: %q goes by what endpoints report to all calls of a service, and belongs to a service", path, p.Balance))
		default:
			errs = append(errs, p.idle(path, p.Balance, own))
		}
	}
	if _, err := routing.Compile(s.rules()); err != nil {
		errs = append(errs, err)
	}
	for i, r := range s.Routes {
		if _, ok := s.Policies[r.Policy]; r.Policy != "" && !ok {
			errs = append(errs, fmt.Errorf("routes[%d].policy: there is no policy %q", i, r.Policy))
		}
	}
	return errors.Join(append(errs, s.idle())...)
}

// validateDefaults reports every mistake of Defaults, for the services that nobody names, too.
func (s Spec) validateDefaults(own map[string]loadbalance.Builder) error {
	const path = "defaults"
	if err := s.Defaults.validate(path, own); err != nil {
		return err
	}
	whole := s.complete(Policy{})
	return errors.Join(whole.validate(path, own), whole.RateLimit.lacking(path+".rateLimit"))
}

// table returns the routes ready for calls, nil if there are none.
func (s Spec) table() (*routing.Table, error) {
	if len(s.Routes) == 0 {
		return nil, nil
	}
	return routing.Compile(s.rules())
}

// rules returns the routes with the names of services in lower case.
func (s Spec) rules() []routing.Rule {
	rules := slices.Clone(s.Routes)
	for i := range rules {
		r := &rules[i]
		r.Match.Service = strings.ToLower(r.Match.Service)
		r.Or = slices.Clone(r.Or)
		for j := range r.Or {
			r.Or[j].Service = strings.ToLower(r.Or[j].Service)
		}
		r.Backends = slices.Clone(r.Backends)
		for j := range r.Backends {
			r.Backends[j].Service = strings.ToLower(r.Backends[j].Service)
		}
		r.Mirrors = slices.Clone(r.Mirrors)
		for j := range r.Mirrors {
			r.Mirrors[j].Service = strings.ToLower(r.Mirrors[j].Service)
		}
	}
	return rules
}

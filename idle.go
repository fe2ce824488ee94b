package zerohop

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// optional is a stage that is off until its mode is set, as a policy has it.
type optional struct {
	field string
	mode  Switch
	set   bool // something else than the mode is
}

func (p *Policy) optional() []optional {
	b, sb, t, r, l, el, h, lane := p.Breaker, p.ServiceBreaker, p.Throttle, p.RateLimit, p.Limit, p.EndpointLimit, p.HealthCheck, p.Lane
	b.Mode, sb.Mode, t.Mode, r.Mode, l.Mode, el.Mode, h.Mode, lane.Mode = "", "", "", "", "", "", "", ""
	return []optional{
		{"breaker", p.Breaker.Mode, b != Breaker{}},
		{"serviceBreaker", p.ServiceBreaker.Mode, sb != Breaker{}},
		{"throttle", p.Throttle.Mode, t != Throttle{}},
		{"rateLimit", p.RateLimit.Mode, r != RateLimit{}},
		{"limit", p.Limit.Mode, l != Limit{}},
		{"endpointLimit", p.EndpointLimit.Mode, el != EndpointLimit{}},
		{"healthCheck", p.HealthCheck.Mode, h != HealthCheck{}},
		{"lane", p.Lane.Mode, lane != Lane{}},
	}
}

// idle reports stages that are set up but that nobody has switched on, or off: most often the mode was forgotten. What
// Defaults and Policies have may be for any service, so it is enough there that one has the mode.
func (s Spec) idle() error {
	var errs []error
	report := func(path string, o optional) {
		if o.set && o.mode == Inherit {
			errs = append(errs, fmt.Errorf(`%s.%s: does nothing, as %[1]s.%[2]s.mode is not set, and off by default`, path, o.field))
		}
	}
	wide := s.complete(Policy{})
	switched := wide.optional() // by anybody
	note := func(i int, mode Switch) {
		if mode.decides() {
			switched[i].mode = mode
		}
	}
	defaults := s.Defaults.optional()
	for _, name := range slices.Sorted(maps.Keys(s.Services)) {
		p := s.Services[name]
		whole := s.complete(p)
		effective := whole.optional()
		for i, o := range p.optional() {
			note(i, effective[i].mode)
			if defaults[i].mode == Inherit && !effective[i].mode.decides() {
				report("services."+name, o)
			}
		}
	}
	names := slices.Sorted(maps.Keys(s.Policies))
	for _, name := range names {
		p := s.Policies[name]
		for i, o := range p.optional() {
			note(i, o.mode)
		}
	}
	for _, name := range names {
		p := s.Policies[name]
		for i, o := range p.optional() {
			if defaults[i].mode == Inherit && !switched[i].mode.decides() {
				report("policies."+name, o)
			}
		}
	}
	for i, o := range defaults {
		if !switched[i].mode.decides() {
			report("defaults", o)
		}
	}
	return errors.Join(errs...)
}

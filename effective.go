package zerohop

import (
	"reflect"
	"strings"

	"github.com/zerohop/zerohop/resilience"
)

// Layer is one of the policies that make up the policy of a call.
type Layer struct {
	// Path is where the spec has it: "policies.slow", "services.orders" or "defaults". That of a preset is "preset" with its
	// name, as in "preset envoy", and that of the built-in defaults is "built-in".
	Path string
	// Policy has the fields that are set there.
	Policy Policy
}

// Layers returns the policies that a call to the service is made under, the narrowest first, if it comes under a route with
// the named policy; policy is empty if it has none. A field has the value of the first layer that sets it, but for a Budget,
// which takes nothing from a layer of another kind. What the spec does not have is left out.
func (s Spec) Layers(service, policy string) []Layer {
	var list []Layer
	whole := s.Defaults
	if own, ok := s.Policies[policy]; ok && policy != "" {
		list = append(list, Layer{"policies." + policy, own})
	}
	for name, own := range s.Services {
		if strings.EqualFold(name, service) {
			list, whole = append(list, Layer{"services." + name, own}), own.over(s.Defaults)
		}
	}
	list = append(list, Layer{"defaults", s.Defaults})
	if whole.Preset != "" {
		list = append(list, Layer{"preset " + whole.Preset, presets[whole.Preset]})
	}
	return append(list, Layer{"built-in", builtin})
}

// Effective returns the policy of calls to the service, if they come under a route with the named policy; policy is empty if
// it has none. A service that the spec does not name has the policy of Defaults.
//
// It is there to be read: numbers that the built-in defaults leave to other packages are those of these packages. Numbers
// less than 0, which switch something off, are as they are.
func (s Spec) Effective(service, policy string) Policy {
	layers := s.Layers(service, policy)
	p := layers[len(layers)-1].Policy
	for i := len(layers) - 2; i >= 0; i-- {
		p = layers[i].Policy.over(p)
	}
	return p.filled()
}

// filled returns the policy with the defaults of the stages that have their own.
func (p Policy) filled() Policy {
	p.Panic = pick(p.Panic, 0.5)
	p.OverProvisioning = pick(p.OverProvisioning, 1.4)
	backoff := resilience.BackoffConfig{Base: p.Retry.Base, Max: p.Retry.Max}.WithDefaults()
	p.Retry.Base, p.Retry.Max = backoff.Base, backoff.Max
	b := p.Budget.config().WithDefaults()
	p.Budget = Budget{Mode: p.Budget.Mode, Kind: b.Kind, Ratio: b.Ratio, Window: b.Window}
	if b.Kind == resilience.BudgetSuccess || b.Kind == resilience.BudgetGRPC {
		p.Budget.Tokens = b.Tokens
	} else {
		p.Budget.Floor = b.Floor
	}
	p.Breaker = p.Breaker.filled(&p)
	p.ServiceBreaker = p.ServiceBreaker.filled(&p)
	l := p.Limit.config().WithDefaults()
	p.Limit.Max, p.Limit.Min, p.Limit.Initial = l.Max, l.Min, l.Initial
	e := p.EndpointLimit.config().WithDefaults()
	p.EndpointLimit.Max, p.EndpointLimit.Min = e.Max, e.Min
	o := p.Outlier.config().WithDefaults()
	p.Outlier.Consecutive, p.Outlier.FailureRatio, p.Outlier.MinResponses = o.Consecutive, o.FailureRatio, o.MinResponses
	p.Outlier.MinHosts, p.Outlier.MinVolume, p.Outlier.Window = o.MinHosts, o.MinVolume, o.Window
	p.Outlier.Ejection, p.Outlier.MaxEjection, p.Outlier.MaxEjected = o.Ejection, o.MaxEjection, o.MaxEjected
	return p
}

func (b Breaker) filled(p *Policy) Breaker {
	c := b.config(p).WithDefaults()
	b.Consecutive, b.Ratio, b.MinRequests, b.Window, b.Calls = c.Consecutive, c.Ratio, c.MinRequests, c.Window, c.Calls
	b.SlowRatio, b.OpenFor, b.MaxOpenFor, b.Probes = c.SlowRatio, c.OpenFor, c.MaxOpenFor, c.Probes
	return b
}

// Origin returns the Path of the layer that sets a field for calls to the service under the named policy: see Layers. field is a
// path of JSON names such as "retry.attempts"; of what is in a list or map, the path of that. It is empty if no layer sets the
// field: the stage that it belongs to has a default of its own then, or it is off.
func (s Spec) Origin(service, policy, field string) string {
	for _, l := range s.Layers(service, policy) {
		if isSet(reflect.ValueOf(l.Policy), field) {
			return l.Path
		}
	}
	return ""
}

// isSet reports whether the field at a path of JSON names is not zero.
func isSet(v reflect.Value, path string) bool {
	for name := range strings.SplitSeq(path, ".") {
		if v.Kind() != reflect.Struct {
			break
		}
		found := reflect.Value{}
		for i := range v.NumField() {
			if tag, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ","); tag == name {
				found = v.Field(i)
			}
		}
		if v = found; !v.IsValid() {
			return false
		}
	}
	return !v.IsZero()
}

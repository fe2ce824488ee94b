package zerohop

import (
	"errors"
	"fmt"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
)

// EndpointLimit bounds how many attempts this process has in flight on one endpoint; see loadbalance.LimitConfig. Attempts
// go to endpoints that are not at their limit, in other zones and priorities if need be. Where all are, nothing waits: the
// call fails with the Reason Limited, or ends with the answer that it has, and no budget is spent.
type EndpointLimit struct {
	// Mode switches the limit. The built-in default is Off: a client that refuses itself what a service could have done makes
	// things worse, and no limit is right for every service.
	Mode Switch `json:"mode,omitempty" yaml:"mode,omitempty"`
	// Algorithm is "fixed", or "adaptive": no limit until attempts take most of the time that they have, by AttemptTimeout or
	// by the deadline of the caller, or are refused for overload, and then one that follows what the endpoint can answer in
	// time. That keeps servers in an overload from working for callers who have left. Empty inherits; the built-in default is
	// "adaptive".
	Algorithm string `json:"algorithm,omitempty" yaml:"algorithm,omitempty"`
	// Max is the largest limit. 0 inherits; the built-in default is 1024 if the limit is fixed, and else none.
	Max int `json:"max,omitempty" yaml:"max,omitempty"`
	// Min is the least that "adaptive" falls to. 0 inherits; the built-in default is 1.
	Min int `json:"min,omitempty" yaml:"min,omitempty"`
}

func (l EndpointLimit) over(wide EndpointLimit) EndpointLimit {
	return EndpointLimit{
		Mode: pick(l.Mode, wide.Mode), Algorithm: pick(l.Algorithm, wide.Algorithm),
		Max: pick(l.Max, wide.Max), Min: pick(l.Min, wide.Min),
	}
}

func (l EndpointLimit) config() loadbalance.LimitConfig {
	return loadbalance.LimitConfig{Max: l.Max, Min: l.Min, Adaptive: l.Algorithm == "adaptive"}
}

// balancer returns what the balancer of a service is to know of the limit, nil if there is none.
func (l EndpointLimit) balancer() *loadbalance.LimitConfig {
	if l.Mode != On {
		return nil
	}
	c := l.config()
	return &c
}

func (l EndpointLimit) validate(path string) error {
	errs := []error{l.Mode.switching(path + ".mode")}
	if l.Algorithm != "" && l.Algorithm != "fixed" && l.Algorithm != "adaptive" {
		errs = append(errs, fmt.Errorf(`%s.algorithm: must be "fixed" or "adaptive", got %q`, path, l.Algorithm))
	}
	return errors.Join(append(errs, under(path, l.config().Validate()))...)
}

// limited makes the error of a pick that failed because all endpoints are at their limit that of a stage that refuses.
func (a *Attempt) limited(err error) error {
	if !errors.Is(err, loadbalance.ErrLimited) {
		return err
	}
	r := Refusal{Stage: StageEndpointLimit, Attempt: a.Number, Enforced: true, Err: err}
	return a.call.refuse(&r)
}

// bound returns how long the attempt could take, 0 if for ever.
func (a *Attempt) bound() time.Duration {
	d := a.call.timeout()
	if end := a.call.machine.Config.Deadline; end > 0 && (d == 0 || end-a.start < d) {
		d = max(end-a.start, 1)
	}
	return d
}

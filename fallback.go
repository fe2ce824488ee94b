package zerohop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// Substitute names a service that answers for one that has failed a call for good: that was refused, found no endpoint, or
// failed after all its attempts. The call is made once more then, to that service and under its policy, with its budget and
// in the time that is left of Timeout and of the caller's deadline. It is made only if it may be executed more than once or
// was provably not sent, and not for a caller who has gone away. If it fails, too, the first failure is the answer. A
// call made as a fallback has none itself, so there are no chains and no loops. Streams of RPCs have no fallback.
//
// For answers that are made rather than fetched see DoOr, httpmesh.Transport.Fallback and grpcmesh.Client.Fallback.
type Substitute struct {
	// Mode switches the fallback. The built-in default is On, which matters only if there is a Service.
	Mode Switch `json:"mode,omitempty" yaml:"mode,omitempty"`
	// Service is the name of the other service. Empty inherits; the built-in default is none.
	Service string `json:"service,omitempty" yaml:"service,omitempty"`
	// Credentials says whether the other service gets what the caller proves itself to the first one with: the headers or
	// metadata Authorization and Cookie. The built-in default is Off. It never gets Proxy-Authorization, nor what a route kept from
	// the first one (routing.Backend.Credentials), unless it is the service that the caller named. Credentials that
	// belong to a connection of gRPC (grpc.WithPerRPCCredentials) go with all RPCs on it.
	Credentials Switch `json:"credentials,omitempty" yaml:"credentials,omitempty"`
}

func (f Substitute) over(wide Substitute) Substitute {
	return Substitute{
		Mode: pick(f.Mode, wide.Mode), Service: pick(f.Service, wide.Service), Credentials: pick(f.Credentials, wide.Credentials),
	}
}

func (f Substitute) validate(path string) error {
	errs := []error{f.Mode.switching(path + ".mode"), f.Credentials.switching(path + ".credentials")}
	if len(f.Service) > maxNameLength {
		errs = append(errs, fmt.Errorf("%s.service: a name must have 1 to %d bytes, got %d", path, maxNameLength, len(f.Service)))
	}
	return errors.Join(errs...)
}

// validateFallbacks reports services that are to answer for themselves.
func (s Spec) validateFallbacks() error {
	var errs []error
	for name, p := range s.Services {
		if f := p.Fallback.Service; f != "" && strings.EqualFold(f, name) {
			errs = append(errs, fmt.Errorf("services.%s.fallback.service: must be another service, got %q", name, f))
		}
	}
	return errors.Join(errs...)
}

// to returns the service that answers for the named one, empty if there is none.
func (f *Substitute) to(name string) string {
	if f.Mode != On || strings.EqualFold(f.Service, name) { // which may be that of all services
		return ""
	}
	return f.Service
}

// fallbacks returns the services that may answer for the named one under any of its policies, of which p is its own.
func (s *Spec) fallbacks(name string, p Policy) (list []string) {
	add := func(f *Substitute) {
		if to := strings.ToLower(f.to(name)); to != "" && !slices.Contains(list, to) {
			list = append(list, to)
		}
	}
	add(&p.Fallback)
	named := map[string]bool{}
	for i := range s.Routes {
		r := &s.Routes[i]
		if r.Policy != "" && !named[r.Policy] {
			named[r.Policy] = true
			f := s.Policies[r.Policy].Fallback.over(p.Fallback)
			add(&f)
		}
	}
	return list
}

// lost reports whether a call has failed for good, given what Run returned.
func lost(a *Attempt, err error) bool {
	if err != nil {
		if failed, ok := lostAnswer(err); ok {
			return failed
		}
		e, ok := errors.AsType[*Error](err)
		return !ok || e.Reason != Closed
	}
	o := a.verdict.Outcome
	return o == resilience.Failure || o == resilience.Overload
}

// Failed reports whether the call has failed for good while its caller still waits, given what Run returned: something else
// may answer for it then.
func (c *Call) Failed(a *Attempt, err error) bool {
	return lost(a, err) && c.target != nil && c.caller().Err() == nil
}

// caller returns the context of the call without the bound of its policy.
func (c *Call) caller() context.Context {
	if d := c.details; d != nil && d.outer != nil {
		return d.outer
	}
	return c.ctx
}

// Instead reports whether another service is to answer for a call that has failed, by Policy.Fallback, and changes r, the
// Request of the call, to that of the call to make instead. It is to be called before Attempt.End. credentials says whether
// that call may have those of the caller.
func (c *Call) Instead(a *Attempt, err error, r *Request) (credentials, ok bool) {
	if !c.Failed(a, err) || r.Instead != "" || r.Copy != nil || c.own {
		return false, false
	}
	p := &c.target.policy
	to := p.Fallback.to(c.target.service.name)
	if to == "" {
		return false, false
	}
	if _, sent := c.records(); sent && !c.machine.Config.Idempotent {
		return false, false
	}
	if d := pick(max(c.said.options.Timeout, 0), p.Timeout); d > 0 {
		r.Timeout = d - (c.mesh().now() - c.start)
		if c.details != nil && c.said.options.Timeout <= 0 { // that of the policy begins after it
			r.Timeout += c.details.delayed
		}
		if r.Timeout < time.Millisecond {
			return false, false
		}
	}
	credentials = p.Fallback.Credentials == On && (c.target.trusted(r.Service) || strings.EqualFold(to, r.Service))
	r.Instead, r.Service = c.target.service.name, to
	return credentials, true
}

// FellBack says that something else has answered for the call, which failed with err, or with an answer if that is nil: the
// service by, or if that is empty a function of the user's. Transports call it.
func (c *Call) FellBack(by string, err error) {
	if h := c.mesh().cfg.Hooks.FellBack; h != nil {
		h(c.caller(), c.info(), by, err)
	}
}

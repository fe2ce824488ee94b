package zerohop

import (
	"errors"
	"fmt"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// Observe is for the stages that refuse calls or attempts: they decide as if they were On and tell Hooks.Refused, but refuse
// nothing. So a policy can be tried on what a service really gets.
const Observe Switch = "observe"

// decides reports whether a stage that refuses is there at all.
func (s Switch) decides() bool { return s == On || s == Observe }

// refusing reports what is no setting of a stage that refuses.
func (s Switch) refusing(path string) error {
	switch s {
	case Inherit, On, Off, Observe:
		return nil
	}
	return fmt.Errorf(`%s: must be "on", "off" or "observe", got %q`, path, string(s))
}

// Stage is a part of the mesh that can refuse a call or an attempt. The stages come in this order: a call passes
// StageRateLimit and StageLimit when its route and its deadline are known, each of its attempts StageThrottle and
// StageBreaker before an endpoint is chosen.
type Stage string

const (
	// StageRateLimit is Policy.RateLimit.
	StageRateLimit Stage = "rate-limit"
	// StageLimit is Policy.Limit, of calls in flight.
	StageLimit Stage = "limit"
	// StageThrottle refuses attempts that the service would most likely refuse.
	StageThrottle Stage = "throttle"
	// StageEndpointLimit is Policy.EndpointLimit, where all endpoints are at their limit: the choice of an endpoint comes last.
	StageEndpointLimit Stage = "endpoint-limit"
	// StageBreaker is the circuit breaker of the service. Those of endpoints make picks go elsewhere and refuse nothing.
	StageBreaker Stage = "breaker"
)

// reason returns why a call fails that the stage refuses.
func (s Stage) reason() Reason {
	switch s {
	case StageRateLimit:
		return RateLimited
	case StageThrottle:
		return Throttled
	case StageBreaker:
		return BreakerOpen
	default:
		return Limited
	}
}

// Refusal tells of a call or an attempt that a stage refused. That is no failure of an endpoint or of the service: it costs no
// budget and counts in no statistics of outcomes. A call whose first attempt is refused fails; one whose retry is
// refused ends with the answer that it has.
type Refusal struct {
	// Stage says who refused.
	Stage Stage
	// Enforced is false if the stage only observes: the call or the attempt goes on.
	Enforced bool
	// Attempt is the number of the attempt, -1 if it is the call that was refused.
	Attempt int
	// After is when to come again, counted from now. 0 means that it is not known.
	After time.Duration
	// Err is what errors.Is finds in the error of the call, such as resilience.ErrRateLimited.
	Err error
}

// refusedError is why an attempt was refused.
type refusedError struct{ Refusal }

func (e *refusedError) Error() string { return e.Err.Error() }

func (e *refusedError) Unwrap() error { return e.Err }

// refuse tells of a refusal, and returns it as an error if it is enforced.
func (c *Call) refuse(r *Refusal) error {
	c.noteRefusal(r)
	if h := c.mesh().cfg.Hooks.Refused; h != nil {
		h(c.ctx, c.info(), *r)
	}
	if !r.Enforced {
		return nil
	}
	c.target.service.sheds(r.Stage)
	return &refusedError{*r}
}

// admit takes the call through the stages that can refuse it, and waits where they make it wait. It returns when the call
// has passed them, or how it ended.
func (c *Call) admit(now time.Duration) (time.Duration, error) {
	wait, err := c.limitRate(now)
	if err != nil {
		return now, c.turnedAway(err)
	}
	if wait > 0 {
		if err := c.sleep(wait); err != nil {
			c.target.rate.Cancel(now, wait)
			return now, err
		}
		now = c.mesh().now()
	}
	queued, err := c.limitFlight(now, nil)
	switch {
	case err != nil:
		return now, c.turnedAway(err)
	case !queued:
		return now, nil
	}
	if err := c.awaitPlace(); err != nil {
		return now, err
	}
	return c.mesh().now(), nil
}

// guarded reports whether attempts on the service can be refused.
func (s *service) guarded() bool { return s.throttle != nil || s.breaker.Load() != nil }

// pass takes an attempt through the stages that can refuse it. If one does, that is why there is no endpoint.
func (c *Call) pass(now time.Duration, a *Attempt) bool {
	s := c.target.service
	var err error
	if s.throttle != nil {
		err = c.throttled(now, a, s.throttle)
	}
	if b := s.breaker.Load(); b != nil && err == nil {
		err = c.broken(now, a, b)
	}
	if err != nil {
		a.drop(now)
		a.Refuse(err)
	}
	return err == nil
}

// drop gives back what the stages gave an attempt that is not made.
func (a *Attempt) drop(now time.Duration) {
	a.settle(now, resilience.Neutral)
	a.permit.Done(now, resilience.Neutral, 0)
	a.permit = resilience.Permit{}
}

// sleep waits for a stage, and ends the call if that is in vain.
func (c *Call) sleep(d time.Duration) error {
	return c.pause(d, func() {})
}

// pause is sleep for those who want to know of its end before the call ends.
func (c *Call) pause(d time.Duration, over func()) error {
	defer c.target.service.keep()()
	ctx := c.ctx
	if w, ok := c.exchange.(Waiter); ok {
		var cancel func()
		ctx, cancel = w.Wait(ctx)
		defer cancel()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		over()
		return nil
	case <-ctx.Done():
		over()
		return c.unready(ctx, withCause(ctx, ctx.Err()))
	case <-c.mesh().ctx.Done():
		over()
		return c.unready(ctx, ErrClosed)
	}
}

// turnedAway ends a call that a stage refused.
func (c *Call) turnedAway(err error) error {
	e := &Error{Detail: resilience.Refused}
	e.Reason, e.After, e.Err = refusalOf(err)
	return c.fail(e, resilience.Neutral)
}

// refusalOf returns what a refusal tells the caller. The reason is empty if err is none.
func refusalOf(err error) (Reason, time.Duration, error) {
	if r := (*refusedError)(nil); errors.As(err, &r) {
		return r.Stage.reason(), r.After, r.Err
	}
	return "", 0, err
}

// recovery returns when the first of the breakers of the endpoints admits an attempt, 0 if none says.
func (s *upstream) recovery() (after time.Duration) {
	for _, n := range s.balancer.Set().Nodes() {
		if t := n.OpenUntil(); !t.IsZero() {
			if d := max(time.Until(t), 1); after == 0 || d < after {
				after = d
			}
		}
	}
	return after
}

// refused reports whether a stage refused the attempt.
func (a *Attempt) refused() bool {
	_, ok := errors.AsType[*refusedError](a.rarity().refused)
	return ok
}

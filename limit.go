package zerohop

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// Limit bounds how many calls this process has in flight at once, from when they begin until their answers were read to the
// end; see resilience.Limit. A call counts once, however many attempts it makes. A route that sets any of it has a limit of its
// own, for each service that it leads to, and its calls do not count against that of the service.
type Limit struct {
	// Mode switches the limit. The built-in default is Off: no limit is right for every service. Observe only tells
	// Hooks.Refused of the calls that the limit would refuse.
	Mode Switch `json:"mode,omitempty" yaml:"mode,omitempty"`
	// Algorithm is "fixed", "aimd", which lowers the limit when attempts time out or are refused for overload, or "gradient",
	// which lowers it when calls take longer than they do while little is in flight: that is for processes that make
	// most of the calls of a service. Empty inherits; the built-in default is "fixed".
	Algorithm string `json:"algorithm,omitempty" yaml:"algorithm,omitempty"`
	// Max is the limit, or the largest one if it adapts. 0 inherits; the built-in default is 1024, and 1000 if it adapts.
	Max int `json:"max,omitempty" yaml:"max,omitempty"`
	// Min is the least that an adaptive limit falls to. 0 inherits; the built-in default is 3, or Max if that is less.
	Min int `json:"min,omitempty" yaml:"min,omitempty"`
	// Initial is where an adaptive limit starts. 0 inherits; the built-in default is 20, within Min and Max.
	Initial int `json:"initial,omitempty" yaml:"initial,omitempty"`
	// Queue is how many calls may wait for their turn, the most critical ones first; those that would probably miss their
	// deadline are refused instead. 0 inherits; the built-in default is none.
	Queue int `json:"queue,omitempty" yaml:"queue,omitempty"`
	// MaxWait is how long a call may wait. 0 inherits; the built-in default is 1 s; less than 0 means as long as its
	// deadline allows.
	MaxWait time.Duration `json:"maxWait,omitempty" yaml:"maxWait,omitempty"`
}

func (l Limit) over(wide Limit) Limit {
	return Limit{
		Mode: pick(l.Mode, wide.Mode), Algorithm: pick(l.Algorithm, wide.Algorithm), Max: pick(l.Max, wide.Max), Min: pick(l.Min, wide.Min),
		Initial: pick(l.Initial, wide.Initial), Queue: pick(l.Queue, wide.Queue), MaxWait: pick(l.MaxWait, wide.MaxWait),
	}
}

func (l Limit) config() resilience.LimitConfig {
	return resilience.LimitConfig{
		Algorithm: l.Algorithm, Max: l.Max, Min: l.Min, Initial: l.Initial, Queue: l.Queue, MaxWait: l.MaxWait, Observe: l.Mode == Observe,
	}
}

func (l Limit) validate(path string) error {
	return errors.Join(l.Mode.refusing(path+".mode"), under(path, l.config().Validate()))
}

// newLimit returns the limit of a policy, nil if there is none.
func newLimit(l *Limit, random func() uint64) *resilience.Limit {
	if !l.Mode.decides() {
		return nil
	}
	return resilience.NewLimit(l.config(), random)
}

// LimitState returns what the limit of a service is at present, and false if it has none (Policy.Limit) or was never called. Those
// that routes have of their own do not count in it.
func (m *Mesh) LimitState(service string) (resilience.LimitState, bool) {
	s := m.known()[strings.ToLower(service)]
	if s == nil || s.direct.flight == nil {
		return resilience.LimitState{}, false
	}
	return s.direct.flight.State(), true
}

// limitFlight asks for a place of the call, and reports whether it has to wait for that. told is Ticket.Told.
func (c *Call) limitFlight(now time.Duration, told func(time.Duration, resilience.Admission)) (queued bool, err error) {
	limit := c.target.flight
	if limit == nil {
		return false, nil
	}
	t := &resilience.Ticket{Criticality: c.criticality(), Deadline: c.deadline(now), Told: told}
	if l := c.latency; l != nil {
		t.Expected, _, _ = l.Quantiles()
	}
	if c.details == nil {
		c.details = &details{}
	}
	c.details.ticket = t
	a := limit.Enter(now, t)
	if a.Refused() {
		return false, c.crowdedOut(a)
	}
	return a == resilience.Queued, nil
}

// crowdedOut tells that the limit refused the call, and returns why if that is enforced.
func (c *Call) crowdedOut(a resilience.Admission) error {
	after := c.target.flight.State().Wait
	return c.refuse(&Refusal{
		Stage: StageLimit, Attempt: -1, Enforced: c.target.policy.Limit.Mode == On, After: after,
		Err: &resilience.LimitedError{Admission: a, After: after},
	})
}

// awaitPlace blocks until a call that was queued has its place, or ends the call.
func (c *Call) awaitPlace() error {
	defer c.target.service.keep()()
	ctx, stop := context.WithCancel(c.ctx)
	defer stop()
	defer context.AfterFunc(c.mesh().ctx, stop)()
	if w, ok := c.exchange.(Waiter); ok {
		var cancel func()
		ctx, cancel = w.Wait(ctx)
		defer cancel()
	}
	err := c.target.flight.Wait(ctx, c.mesh().now, c.details.ticket)
	var limited *resilience.LimitedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &limited):
		return c.turnedAway(c.crowdedOut(limited.Admission))
	case c.mesh().ctx.Err() != nil:
		return c.unready(ctx, ErrClosed)
	default:
		return c.unready(ctx, withCause(ctx, err))
	}
}

// leave gives the place of the call back. Calls that were not let in have none.
func (c *Call) leave(outcome resilience.Outcome) {
	var latency time.Duration
	c.mu.Lock()
	n := c.machine.Launched()
	if n == 1 { // else it is not that of one answer
		latency = c.first.latency
	}
	for i := range n {
		if c.slot(i).rarity().late && outcome != resilience.Success {
			outcome = resilience.Overload // is what a limit takes it for
		}
	}
	c.mu.Unlock()
	c.target.flight.Leave(c.mesh().now(), c.details.ticket, outcome, latency)
}

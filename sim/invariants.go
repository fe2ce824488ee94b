package sim

import (
	"errors"
	"fmt"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// What must hold whatever the policy and the faults are. A few of those that do not are reported.

const maxBroken = 5

func (w *world) violated(format string, args ...any) {
	if len(w.broken) < maxBroken {
		w.broken = append(w.broken, fmt.Errorf("at %v: %s", w.now, fmt.Sprintf(format, args...)))
	}
}

// checkAttempt is told of every attempt that begins.
func (w *world) checkAttempt(c *call, a *zerohop.Attempt) {
	switch {
	case len(c.attempts) >= resilience.MaxAttempts:
		w.violated("a call makes attempt %d", len(c.attempts)+1)
	case c.stepped.Over():
		w.violated("an attempt begins after its call is over")
	case c.ctx.at > 0 && w.now >= c.ctx.at && w.now > c.began:
		w.violated("an attempt begins after the deadline of its call")
	case a.Backup() && len(c.attempts) == 1 && c.attempts[0].step.Node() == a.Node():
		w.violated("a backup goes to the endpoint that it is to replace")
	}
	if len(c.attempts) == 0 || c.resend && !a.Backup() {
		return // is free
	}
	l := c.mesh.ledger(a)
	l.paid++
	if p := a.Policy().Budget; p.Mode == zerohop.On {
		tokens, ratio := p.Tokens, p.Ratio
		if tokens == 0 {
			tokens = 10
		}
		if ratio == 0 {
			ratio = 0.1
		}
		if most := tokens/2 + ratio*float64(l.good) + 1; float64(l.paid) > most {
			w.violated("%d attempts have been repeated or backed up, but %d successes pay for %.1f", l.paid, l.good, most)
		}
	}
}

// ledger is what a mesh has spent of the budget of a service, and what has paid for that.
type ledger struct{ paid, good int }

func (m *mesh) ledger(a *zerohop.Attempt) *ledger {
	l := m.ledgers[a.Service()]
	if l == nil {
		l = &ledger{}
		m.ledgers[a.Service()] = l
	}
	return l
}

// checkCall is told of every call that ends.
func (w *world) checkCall(c *call, ok bool, err error) {
	if ok && c.runs == 0 {
		w.violated("a call succeeds that no endpoint has seen")
	}
	var e *zerohop.Error
	if errors.As(err, &e) && !e.Sent && c.runs > 0 {
		w.violated("a call that was executed is reported as not sent: %v", err)
	}
}

// checkRest is told that no call is under way.
func (w *world) checkRest() {
	for i, m := range w.meshes {
		for _, b := range m.balancers {
			for _, n := range b.Set().Nodes() {
				if n.InFlight() != 0 {
					w.violated("mesh %d: %d attempts on %s are in flight, but no call is", i, n.InFlight(), n.Addr())
				}
			}
		}
	}
}

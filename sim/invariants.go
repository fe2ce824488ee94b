package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/loadbalance"
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
func (w *world) checkAttempt(c *call, a *zerohop.Attempt, e *endpoint) {
	p, made := a.Policy(), len(c.attempts)
	switch {
	case e.service.name != c.request.Service:
		w.violated("an attempt on %s goes to an endpoint of %s", c.request.Service, e.service.name)
	case made >= min(max(p.Retry.Attempts, 1), resilience.MaxAttempts):
		w.violated("a call makes attempt %d of %d", made+1, p.Retry.Attempts)
	case c.stepped.Over():
		w.violated("an attempt begins after its call is over")
	case c.ctx.err != nil:
		w.violated("an attempt begins after its caller has left: %v", c.ctx.err)
	case c.ctx.at > 0 && w.now >= c.ctx.at && w.now > c.began:
		w.violated("an attempt begins after the deadline of its call")
	case e.unlisted && c.mesh.feeds[c.request.Service].settled():
		w.violated("an attempt goes to %s, which has left long ago", e.addr)
	}
	if made == 0 {
		return
	}
	last := c.attempts[made-1]
	switch {
	case a.Backup() && made == 1 && last.node == a.Node():
		w.violated("a backup goes to the endpoint that it is to replace")
	case p.Retry.Mode == zerohop.Off && !a.Backup():
		w.violated("an attempt is repeated although nothing is")
	case !c.request.Idempotent && p.Idempotent != zerohop.On && (a.Backup() || !c.resend):
		w.violated("a call that must not be repeated is, although it may have been sent")
	}
	if !a.Backup() && c.failed.after == 0 {
		c.mesh.checkPause(w.now - c.failed.at)
	}
}

// alike is how many pauses in a row are the same only if they are not drawn at random.
const alike = 3

// checkPause is told how long a call has paused before it repeated an attempt.
func (m *mesh) checkPause(d time.Duration) {
	switch {
	case d == 0 || m.late > 0 || m.world.scenario.Grain > 0 || m.resumed > 0:
		return
	case d != m.pausedFor:
		m.pausedFor, m.pauses = d, 1
		return
	}
	if m.pauses++; m.pauses == alike {
		m.world.violated("%s pauses %v before a repetition %d times in a row: pauses must differ", m.name, d, alike)
	}
}

// checkLoad is told that the machine of a call waits for what comes next.
func (w *world) checkLoad(c *call) {
	for _, a := range c.attempts {
		if got, want := a.node.InFlight(), c.mesh.open[a.node]; got != want {
			w.violated("%s counts %d attempts on %s as in flight, but %d are", c.mesh.name, got, a.node.Addr(), want)
		}
		if _, known := c.mesh.ejected[a.node]; known != a.node.Ejected() {
			if known {
				delete(c.mesh.ejected, a.node)
			} else {
				c.mesh.ejected[a.node] = w.now
			}
		}
	}
}

// checkReturn is told of an answer from an endpoint that was ejected since some time, 0 if it was not.
func (w *world) checkReturn(a *attempt, since time.Duration) {
	if since > 0 && a.began < since && !a.node.Ejected() {
		w.violated("%s returns to service by the answer to an attempt from before its ejection", a.node.Addr())
	}
}

// checkWait is told that a call is about to see what time it is.
func (w *world) checkWait(c *call) {
	if c.ctx.at == 0 || w.now < c.ctx.at || c.ctx.err != nil || len(c.attempts) == 0 || c.tardy || c.mesh.resumed > 0 {
		return
	}
	for _, a := range c.attempts {
		if !a.left {
			return
		}
	}
	w.violated("a call has waited for its deadline to repeat an attempt, although its caller could have had the answer")
}

// checkEjections is told that a call failed somewhere.
func (w *world) checkEjections(c *call) {
	p := c.attempts[0].step.Policy()
	if p.HealthCheck.Mode == zerohop.On || p.Outlier.Mode != zerohop.On {
		return // endpoints that fail their checks are not in what the ceiling is a share of
	}
	nodes := c.mesh.feeds[c.request.Service].balancer.Set().Nodes()
	out := 0
	for _, n := range nodes {
		if n.Ejected() {
			out++
		}
	}
	ceiling := p.Outlier.MaxEjected
	if ceiling == 0 {
		ceiling = 0.5
	}
	if one := p.Outlier.One == zerohop.On && out == 1; out > 0 && (out == len(nodes) || float64(out) > ceiling*float64(len(nodes))+1e-9 && !one) {
		w.violated("%s has ejected %d of %d endpoints of %s", c.mesh.name, out, len(nodes), c.request.Service)
	}
}

// checkAnswer is told of the attempt that has the answer of a call, before the caller has read it.
func (w *world) checkAnswer(c *call, answer *zerohop.Attempt) {
	if answer.Verdict().Outcome != resilience.Success || answer.Policy().AttemptTimeout > 0 || c.ctx.err != nil {
		return // its context has ended when it was let go of, or may have a moment before it came
	}
	for _, a := range c.attempts {
		if a.step == answer && errors.Is(a.ctx.Err(), context.Canceled) {
			w.violated("the context of an answer has ended before it was read")
		}
	}
}

// checkCall is told of every call that is over.
func (w *world) checkCall(c *call, ok bool, err error) {
	if ok && c.runs == 0 {
		w.violated("a call succeeds that no endpoint has seen")
	}
	var e *zerohop.Error
	if errors.As(err, &e) && !e.Sent && c.runs > 0 {
		w.violated("a call that was executed is reported as not sent: %v", err)
	}
	for i, a := range c.attempts {
		if a.ctx.Err() == nil {
			w.violated("the context of attempt %d of %d is open although its call is over", i+1, len(c.attempts))
		}
	}
	for _, f := range c.ctx.after {
		if f != nil {
			w.violated("something still waits for the end of the context of a call that is over")
		}
	}
	w.checkLoad(c)
	if len(c.attempts) > 0 && (!ok || len(c.attempts) > 1) {
		w.checkEjections(c)
	}
}

// checkRest is told that no call is under way.
func (w *world) checkRest() {
	for _, m := range w.meshes {
		for n, open := range m.open {
			if open != 0 || n.InFlight() != 0 {
				w.violated("%s: %d attempts on %s are in flight, but no call is", m.name, n.InFlight(), n.Addr())
				break // of one, as there is no order in a map
			}
		}
		for _, f := range m.watched {
			if f.wiped {
				w.violated("%s lost all endpoints of %s although nobody had said for long that there are none", m.name, f.service)
			}
			if f.thinned {
				w.violated("%s lost most endpoints of %s although nobody had said for long that there are few", m.name, f.service)
			}
			w.checkPlaces(m, f.service)
			for _, n := range f.balancer.Set().Nodes() {
				w.checkPermits(m, n)
			}
		}
	}
}

// checkPermits is told of an endpoint that no attempt is under way on.
func (w *world) checkPermits(m *mesh, n *loadbalance.Node) {
	b := n.Breaker()
	if b == nil {
		return
	}
	now := n.Since(time.Now())
	switch b.State(now) {
	case resilience.BreakerOpen:
		w.result.open++
		return
	case resilience.BreakerClosed:
		return
	}
	p, ok := b.Allow(now)
	if !ok {
		w.violated("%s: the breaker of %s waits for probes, but none is under way", m.name, n.Addr())
	}
	p.Done(now, resilience.Neutral, 0)
}

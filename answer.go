package zerohop

import (
	"context"
	"errors"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// answered judges an attempt that has returned, tells the machine and lets go of the attempt unless it is the
// answer.
func (c *Call) answered(a *Attempt, v resilience.Verdict) resilience.Action {
	m := c.mesh()
	now := m.now()
	a.took = now - a.start
	a.latency = max(a.took-a.rarity().idle, 0)
	late := false
	if !a.Arrived() && v.Outcome != resilience.Success && c.ctx.Err() == nil {
		v = resilience.Verdict{Outcome: resilience.Failure, Retry: true, Unsent: v.Unsent}
		a.Err, a.Status, late = timeoutError(c.timeout()), -1, true
	}
	if v.Outcome == resilience.Failure && a.Err == nil && c.due(now) {
		v.Outcome, late = c.blame(a, context.DeadlineExceeded), true
	}
	if f := m.cfg.Classify; f != nil {
		v = f(c.info(), AttemptResult{Status: a.Status, Outcome: v.Outcome, Err: a.Err, Latency: a.took, Duration: a.took}, v)
	}
	m.overdue.forget(c)
	ev := resilience.Event{Kind: resilience.Done, Attempt: a.Number, Unrepeatable: a.gone, Answer: a.answers()}
	if v.Retry {
		ev.Random = m.cfg.Rand()
		ev.Elsewhere = v.After > 0 && a.elsewhere(now)
		ev.Nowhere = v.Unsent && c.nowhere()
	}
	shut := a.spawned && !c.more.detach[a.Number-1]()
	if v.Outcome != resilience.Success {
		c.lookBack(now)
	}

	c.mu.Lock()
	unsent := v.Unsent || a.rarity().refused != nil
	var gone error
	if v.Outcome != resilience.Success {
		gone = c.ctx.Err()
	}
	switch {
	case v.Outcome == resilience.Success:
		if c.stream {
			a.latency = 0
		}
	case v.Outcome == resilience.Overload && (c.over || gone != nil) && a.rarity().refused == nil:
		// Too late to matter to the call, but the endpoint is alive, and said what it wants.
		if late = gone != nil && !c.over; late {
			ev.Kind = resilience.Cancel
		}
	case c.over && c.next.reason != resilience.Canceled:
		// Given up for another attempt: the endpoint takes at least as long as this one ran.
		v = resilience.Verdict{Outcome: resilience.Neutral, Unsent: unsent}
		if c.machine.Config.Backup > 0 && a.latency >= c.machine.Config.Backup {
			a.ownRarity().overdue = true
		}
	case gone != nil:
		if a.Node() == nil && !c.own { // no endpoint was reached in time, and the transport knows why
			a.ownRarity().refused = a.Err
		}
		ev.Kind, v = resilience.Cancel, resilience.Verdict{Outcome: c.blame(a, gone), Unsent: unsent}
		if late = true; v.Outcome == resilience.Neutral {
			a.latency = 0
		}
	case a.rarity().refused != nil, shut, c.over:
		ev.Kind, v = resilience.Rejected, resilience.Verdict{Outcome: resilience.Neutral, Unsent: unsent}
		a.latency, ev.Refused = 0, a.refused()
	case v.Outcome == resilience.Neutral:
		a.latency = 0
	}
	if late {
		a.ownRarity().late = true
	}
	a.verdict, ev.Verdict, a.judged = v, v, true
	if ev.Elsewhere {
		c.rest().sound = true
	}
	if !c.stream || a.resumed || v.Outcome != resilience.Success { // else it has only begun
		a.accepted(now, ev.Kind == resilience.Done) // now: once the call is over, its caller may end the attempt
	}
	act := c.stepLocked(now, &ev)
	a.answer = act.Kind == resilience.Finish && act.Attempt == a.Number
	mine := a.answer
	if !mine {
		record := a.result()
		a.ownRarity().record = &record
		c.rest().letting.Add(1)
	}
	c.mu.Unlock()

	if v.Outcome == resilience.Success && a.latency > 0 {
		c.learn(now, a)
	}
	if !mine {
		c.letGo(a)
	}
	return act
}

// letGo ends an attempt that is not the answer.
func (c *Call) letGo(a *Attempt) {
	defer c.more.letting.Done()
	c.exchange.Release(a)
	a.End(a.verdict.Outcome, nil)
}

// learn takes note of how long a successful attempt took. An error that is an answer may be that there is no such
// operation, whose name is not kept.
func (c *Call) learn(now time.Duration, a *Attempt) {
	l := c.latency
	if l == nil && c.named {
		if a.Err != nil {
			return
		}
		l = c.target.learn(c.details.method)
	}
	l.Observe(now, a.latency)
}

// blame decides whose fault it is that the caller went away before an answer came. That the caller cancelled
// says nothing about the endpoint. That its deadline passed does, if the endpoint had as much time as it usually
// takes.
func (c *Call) blame(a *Attempt, gone error) resilience.Outcome {
	if !errors.Is(gone, context.DeadlineExceeded) || a.Node() == nil {
		return resilience.Neutral
	}
	usual := unknownUsual
	if l := c.latency; l != nil {
		if p50, _, known := l.Quantiles(); known {
			usual = p50
		}
	}
	if a.latency < usual {
		return resilience.Neutral
	}
	return resilience.Failure
}

// due reports whether the deadline of the call is about to pass. A server that was told so fails for that a moment
// before: it counts in milliseconds, and its timers are not ours.
func (c *Call) due(now time.Duration) bool {
	d, ok := c.ctx.Deadline()
	return ok && d.Sub(c.mesh().at(now)) < 5*time.Millisecond
}

// unknownUsual is what an endpoint is taken to need usually before anything is known.
const unknownUsual time.Duration = unlearnedBackup / 2

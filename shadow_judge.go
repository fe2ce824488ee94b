package zerohop

import (
	"context"
	"errors"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// shadowAttempt is an attempt of a call that is over.
type shadowAttempt struct {
	event  resilience.Event // that told of it
	took   time.Duration
	addr   string
	backup bool
}

// end judges what would have become of a call that is over, given how it did.
func (x *shadowCall) end(c *Call, outcome resilience.Outcome) {
	s := x.shadow
	made := c.shadowAttempts()
	now := s.mesh.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	t := x.target
	if x.ticket != nil {
		t.flight.Leave(now, x.ticket, outcome, 0)
	}
	if s.over || x.moved {
		return
	}
	found := s.of(t.service)
	found.follow(t.service, c.target.service)
	found.Attempts += uint64(len(made))
	for i := range made {
		if made[i].backup {
			found.Backups++
		}
	}
	p := paper{call: x, found: found, made: made, mesh: s.mesh}
	if x.stage == "" {
		p.play(c.start)
		for i := range made {
			x.observe(found, &made[i], now)
		}
	}
	switch {
	case outcome != resilience.Success && c.cut() && (x.limits.Deadline == 0 || x.limits.Deadline > now):
		if x.stage == "" && !p.refused {
			found.Saved++
		}
	case len(made) == 0:
	case outcome == resilience.Neutral: // its caller has gone away
	case outcome == resilience.Success:
		late := x.limits.Deadline > 0 && now > x.limits.Deadline // its answer was not read to the end before
		switch {
		case x.stage != "" || p.refused:
			found.Lost++
		case p.late || late:
			found.Lost, found.LostToTime = found.Lost+1, found.LostToTime+1
		case p.open:
			found.Unsure++
		case !p.succeeded:
			found.Lost, found.LostToRetry = found.Lost+1, found.LostToRetry+1
		}
	case x.stage == "" && p.open:
		found.Saved++
	}
}

// cut reports whether a call that is over ran out of the time that its policy or its options gave it.
func (c *Call) cut() bool {
	return c.details.cancel != nil && errors.Is(c.ctx.Err(), context.DeadlineExceeded) && c.details.outer.Err() == nil
}

// shadowAttempts returns the attempts that were made, in the order in which they began. Those that were given up for another are
// not among them: how they would have ended, nobody knows.
func (c *Call) shadowAttempts() (made []shadowAttempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.machine.Launched() {
		a := c.slot(i)
		if !a.judged || a.rarity().refused != nil || c.over && a.verdict.Outcome == resilience.Neutral && !a.verdict.Retry {
			continue
		}
		made = append(made, shadowAttempt{
			event: resilience.Event{Kind: resilience.Done, Verdict: a.verdict, Answer: a.answers(), Unrepeatable: a.gone},
			took:  a.took, addr: a.addr(), backup: a.Backup(),
		})
	}
	return made
}

// observe tells the endpoint as the other Spec has it how the attempt on it went.
func (x *shadowCall) observe(found *shadowed, a *shadowAttempt, now time.Duration) {
	if a.addr == "" {
		return
	}
	at := x.shadow.mesh.at(now)
	b := x.target.service.balancer
	p, err := b.Set().Pick(loadbalance.Info{Now: at, Node: loadbalance.NodeKey(a.addr), Strict: true})
	if err != nil {
		found.KeptAway++
		return
	}
	p.Done(loadbalance.Report{Now: at, Outcome: a.event.Verdict.Outcome, Latency: a.took, After: a.event.Verdict.After})
	if a.event.Verdict.Outcome == resilience.Success {
		x.target.latency.Observe(now, a.took)
	}
}

// paper makes a call once more: the machine of the other Spec decides, and its attempts end as those of the call did, one after
// the other.
type paper struct {
	call    *shadowCall
	found   *shadowed
	mesh    *Mesh
	made    []shadowAttempt
	machine resilience.Call
	next    int // of made, for the attempt that is launched next
	running [resilience.MaxAttempts]paperAttempt

	succeeded, late, open, refused bool
}

// paperAttempt is an attempt of such a call.
type paperAttempt struct {
	made    *shadowAttempt // whose end it has; nil if it does not run
	at      time.Duration  // when it ends
	permit  resilience.Permit
	outcome resilience.Outcome
}

// play makes the call that began at the given time. It ends with one of these: it succeeded; it ran out of time (late); a stage
// refused it; it would have gone on with an attempt that nobody made (open); or it failed.
func (p *paper) play(now time.Duration) {
	m := &p.machine
	m.Config = p.call.limits
	act := m.Step(now, &resilience.Event{Kind: resilience.Begin})
	for range 10 * resilience.MaxAttempts { // each attempt is launched, ends and is waited for
		if act.Kind == resilience.Launch {
			i := act.Attempt
			switch {
			case p.next < len(p.made) && p.pass(now, i):
				p.launch(now, i, act.Cause)
				act = resilience.Action{Kind: resilience.Wait}
			case p.refused:
				act = m.Step(now, &resilience.Event{Kind: resilience.Rejected, Attempt: i, Refused: true})
			case act.Cause == resilience.Backup: // which may have been the first to succeed, but need not have been
				p.found.WouldAttempts, p.found.WouldBackups = p.found.WouldAttempts+1, p.found.WouldBackups+1
				act = m.Step(now, &resilience.Event{Kind: resilience.Rejected, Attempt: i})
			default:
				p.found.WouldAttempts++
				p.open = len(p.made) > 0
				m.Step(now, &resilience.Event{Kind: resilience.Cancel})
				return
			}
			continue
		}
		if act.Kind == resilience.Finish {
			p.late = act.Reason == resilience.OutOfTime && p.next < len(p.made)
			p.succeeded = act.Attempt >= 0 && p.running[act.Attempt].outcome == resilience.Success
			return
		}
		// What comes next: an attempt ends, a tick is due, or the time is over.
		first := -1
		for i := range p.running {
			if r := &p.running[i]; r.made != nil && (first < 0 || r.at < p.running[first].at) {
				first = i
			}
		}
		wake, deadline := m.Wake(), m.Config.Deadline
		switch {
		case deadline > 0 && (first < 0 || p.running[first].at > deadline) && (wake == 0 || wake > deadline):
			p.late = true
			m.Step(deadline, &resilience.Event{Kind: resilience.Cancel})
			return
		case wake > 0 && (first < 0 || wake <= p.running[first].at):
			now = max(now, wake)
			act = m.Step(now, &resilience.Event{Kind: resilience.Tick})
		case first >= 0:
			now = max(now, p.running[first].at)
			act = p.finish(now, first)
		default:
			return
		}
	}
}

// pass takes an attempt through the stages that can refuse it.
func (p *paper) pass(now time.Duration, i int) bool {
	s := p.call.target.service
	if s.throttle != nil && !s.throttle[p.call.limits.Criticality].Allow(now, p.mesh.cfg.Rand()) {
		p.call.refuse(p.found, StageThrottle)
		p.refused = true
		return false
	}
	if b := s.breaker.Load(); b != nil {
		permit, ok, _ := b.Ask(now)
		if p.running[i].permit = permit; !ok {
			p.call.refuse(p.found, StageBreaker)
			p.refused = true
			return false
		}
	}
	return true
}

// launch begins an attempt that ends as the next of those that were made.
func (p *paper) launch(now time.Duration, i int, why resilience.Cause) {
	r := &p.running[i]
	r.made = &p.made[p.next]
	p.next++
	r.at = now + r.made.took
	if most := p.call.target.policy.AttemptTimeout; most > 0 {
		r.at = min(r.at, now+most)
	}
	p.found.WouldAttempts++
	if why == resilience.Backup {
		p.found.WouldBackups++
	}
}

// finish ends an attempt.
func (p *paper) finish(now time.Duration, i int) resilience.Action {
	r := &p.running[i]
	ev := r.made.event
	ev.Attempt, ev.Random = i, p.mesh.cfg.Rand()
	if most := p.call.target.policy.AttemptTimeout; most > 0 && r.made.took > most {
		ev.Verdict = resilience.Verdict{Outcome: resilience.Failure, Retry: true}
	}
	r.made, r.outcome = nil, ev.Verdict.Outcome
	r.permit.Done(now, r.outcome, 0)
	if s := p.call.target.service; s.throttle != nil {
		s.throttle[p.call.limits.Criticality].Done(now, r.outcome)
	}
	return p.machine.Step(now, &ev)
}

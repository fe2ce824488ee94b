package sim

import (
	"fmt"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// admission is what decides on the requests that come to an endpoint, and its timer.
type admission struct {
	*zerohop.Admission
	alarm time.Duration // when Tick is due, 0 if never
}

// newAdmission makes the server half of an endpoint, nil if it refuses nothing.
func (e *endpoint) newAdmission() (*admission, error) {
	s := e.service
	if s.Bare || s.Admission.Mode != zerohop.On {
		return nil, nil
	}
	a, err := zerohop.NewAdmission(zerohop.AdmissionConfig{
		Policy: s.Admission, Rand: e.world.random(fmt.Sprint("admission ", s.name, " ", e.number)).Uint64,
	})
	return &admission{Admission: a}, err
}

// admit decides whether the endpoint works on a request, as the server half of httpmesh does.
func (e *endpoint) admit(r *request) {
	if e.admission == nil {
		e.enqueue(r)
		return
	}
	v, now := &r.visit, e.world.now
	v.Operation, v.Criticality, v.Attempt, v.AttemptLeft = e.service.name, r.inbound.Criticality, r.inbound.Attempt, r.patience
	if r.deadline > 0 {
		v.Left = r.deadline - now
	}
	a := e.admission
	waits, err := a.Enter(now, v, func(_ time.Duration, err *zerohop.AdmissionError) {
		e.world.after(0, func() { e.whenRunning(func() { e.admitted(r, err) }) }) // not in the middle of how another one leaves
	})
	if r.asked = true; !waits {
		e.whenRunning(func() { e.admitted(r, err) })
	}
	e.watch(a)
}

// admitted is told what becomes of a request that does not wait any more.
func (e *endpoint) admitted(r *request, err *zerohop.AdmissionError) {
	switch {
	case r.gone:
		r.visit.LeaveAt(e.world.now, resilience.Neutral)
	case err == nil:
		r.attempt.call.executed(r.attempt)
		e.enqueue(r)
	case err.NoTime:
		e.reply(r, answer{status: 504, noRetry: true, verdict: resilience.Verdict{Outcome: resilience.Neutral, Retry: true, Unsent: true}})
	default:
		v := resilience.Verdict{Outcome: resilience.Overload, Retry: true, Unsent: true}
		if err.After >= time.Second { // a header cannot say less
			v.After = (err.After + time.Second - 1).Truncate(time.Second)
		}
		e.reply(r, answer{status: 503, noRetry: err.Final, unsent: true, after: v.After, verdict: v})
	}
}

// depart gives up the place that a request has in the endpoint, or waits for.
func (e *endpoint) depart(r *request, o resilience.Outcome) {
	if a := e.admission; a != nil && r.asked {
		if !a.Cancel(e.world.now, &r.visit) {
			r.visit.LeaveAt(e.world.now, o)
		}
		e.watch(a)
	}
}

// forgo is told that the caller of a request has left, which servers see soon: those that wait need no place any more.
func (e *endpoint) forgo(r *request) {
	if e.admission != nil && r.inside && e.admission.Cancel(e.world.now, &r.visit) {
		r.asked = false
		e.leave(r, resilience.Neutral)
	}
}

// watch sees to it that requests do not wait for too long.
func (e *endpoint) watch(a *admission) {
	at := a.Wake()
	if at == 0 || a.alarm > 0 && a.alarm <= at {
		return
	}
	a.alarm = at
	e.world.at(at, func() {
		if a.alarm != at || a != e.admission {
			return
		}
		e.whenRunning(func() {
			a.alarm = 0
			a.Tick(e.world.now)
			e.watch(a)
		})
	})
}

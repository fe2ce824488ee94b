package zerohop

import (
	"context"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// Stepped makes one logical call by the decisions of a Call, but never blocks and starts no goroutine. Its driver keeps
// the time: it says which attempts have ended, and when the time of Wake has come. So package sim makes many calls
// in a single goroutine, whose order is the same in every run.
//
// The zero value is ready, and good for one Begin. All calls of its Mesh must be stepped, and one at a time.
type Stepped struct {
	// Ready is called when a call that waits for a place (Policy.Limit) is let in or refused, from within a method of another
	// call or the end of its answer. It must not call back: Tick is due at once, as Wake says now. May be nil.
	Ready func()

	call    Call
	request *Request
	over    bool
	held    time.Duration // until when a fault holds the call up, 0 if none does
	turn    time.Duration // of a call that waits for it, 0 if it does not
	asked   time.Duration // when it began to wait
	fault   injection
	place   place
	answer  *Attempt
	err     error
}

// Begin begins the call, as Call.Run does. The service must have got its endpoints before. x.Attempt must call
// Attempt.Open and begin the attempt, whose end Answer tells.
func (s *Stepped) Begin(ctx context.Context, m *Mesh, r *Request, x Exchange) {
	m.overdue.stop() // Tick does what it would do, in goroutines of its own
	s.request = r
	if err := s.call.prepare(ctx, m, r, x); err != nil {
		s.over, s.err = true, err
		return
	}
	s.act(s.call.start)
}

// admit takes the call through the stages that can refuse it, as far as it need not wait for them.
func (s *Stepped) admit(now time.Duration) {
	wait, err := s.call.limitRate(now)
	switch {
	case err != nil:
		s.over, s.err = true, s.call.turnedAway(err)
	case wait > 0:
		s.asked, s.turn = now, now+wait
	default:
		s.enter(now)
	}
}

func (s *Stepped) proceed(now time.Duration) {
	a, err := s.call.proceed(now, s.request)
	if err != nil || !a.Opened() {
		s.over, s.answer, s.err = true, a, err
	}
}

// wait goes on with a call that waits for its turn, if it is time.
func (s *Stepped) wait(now time.Duration) {
	c := &s.call
	switch err := c.ctx.Err(); {
	case err != nil:
		c.target.rate.Cancel(s.asked, s.turn-s.asked)
		s.over, s.err = true, c.unready(c.ctx, withCause(c.ctx, err))
	case now >= s.turn:
		s.turn = 0
		s.enter(now)
	}
}

// Answer says that an attempt has ended, with the given verdict. Attempt.Status or Attempt.Err are set. Nothing comes of
// it if the attempt was given up before.
func (s *Stepped) Answer(a *Attempt, v resilience.Verdict) {
	if a.Opened() {
		s.carryOut(s.end(a, v))
	}
}

// Wake returns when Tick is due next, zero if never. Every other method may change it.
func (s *Stepped) Wake() time.Time {
	if s.over {
		return time.Time{}
	}
	c := &s.call
	var wake time.Time
	earlier := func(t time.Time) {
		if wake.IsZero() || t.Before(wake) {
			wake = t
		}
	}
	if s.held > 0 {
		earlier(c.mesh().at(s.held))
	}
	if s.turn > 0 {
		earlier(c.mesh().at(s.turn))
	}
	if s.place.queued {
		if d := s.placeWake(); d > 0 {
			earlier(c.mesh().at(d))
		}
	}
	if d := c.machine.Wake(); d > 0 {
		earlier(c.mesh().at(d))
	}
	if d, ok := c.ctx.Deadline(); ok {
		earlier(d)
	}
	if c.timeout() > 0 {
		for a := range s.running {
			earlier(c.mesh().at(s.expires(a)))
		}
	}
	return wake
}

// Tick goes on with what is due: a backup, a retry after a pause, the end of an attempt that took too long, or that of
// the call because its context has ended. It does no harm if nothing is.
func (s *Stepped) Tick() {
	if s.over {
		return
	}
	c := &s.call
	now := c.mesh().now()
	if s.held > 0 {
		s.resume(now)
		return
	}
	if s.turn > 0 {
		s.wait(now)
		return
	}
	if s.place.queued {
		s.take(now)
		return
	}
	if c.ctx.Err() != nil {
		for a := range s.running {
			s.carryOut(s.giveUp(a))
			return
		}
		s.carryOut(c.step(now, &resilience.Event{Kind: resilience.Cancel}))
		return
	}
	if c.timeout() > 0 {
		for a := range s.running {
			if now >= s.expires(a) {
				a.arrived = false // and its alarm has been stopped: it is found to be late
				s.carryOut(s.end(a, resilience.Verdict{Outcome: resilience.Failure}))
			}
		}
	}
	s.carryOut(c.step(now, &resilience.Event{Kind: resilience.Tick}))
}

// Over reports whether the call has ended.
func (s *Stepped) Over() bool { return s.over }

// Result returns what Call.Run would have returned, once the call is over. The answer is owed a call of Attempt.End.
func (s *Stepped) Result() (*Attempt, error) { return s.answer, s.err }

func (s *Stepped) expires(a *Attempt) time.Duration { return a.start + s.call.timeout() }

// running calls yield with the attempts that are under way.
func (s *Stepped) running(yield func(*Attempt) bool) {
	for i := range s.call.machine.Launched() {
		if a := s.call.slot(i); a.Opened() && !yield(a) {
			return
		}
	}
}

func (s *Stepped) end(a *Attempt, v resilience.Verdict) resilience.Action {
	a.opened = false
	return s.call.answered(a, v)
}

// carryOut does what the machine decided. When the call is over, what still runs is given up.
func (s *Stepped) carryOut(act resilience.Action) {
	c := &s.call
	for act.Kind == resilience.Launch {
		act = c.attempt(c.mesh().now(), act)
	}
	if act.Kind != resilience.Finish || s.over {
		return
	}
	s.over = true
	s.answer, s.err = c.finish(act)
	for a := range s.running {
		s.giveUp(a)
	}
}

// giveUp ends an attempt as its exchange would, whose context has ended.
func (s *Stepped) giveUp(a *Attempt) resilience.Action {
	if a.Err = s.call.ctx.Err(); a.Err == nil {
		a.Err = context.Canceled
	}
	return s.end(a, resilience.Verdict{Outcome: resilience.Failure, Retry: true})
}

package resilience

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Do calls f under the protection of a stack, of which nil has no stage.
//
// The first attempt runs in the goroutine of the caller, and so do retries. With Stack.Hedge f may run twice at the same
// time, in another goroutine, and may go on for a moment after Do has returned. f must return soon after its context has
// ended, which happens when the caller's does, when it takes too long and, if the call is hedged, when the call is over.
//
// Do returns what the first successful attempt did. If there is none it returns the result of the last attempt and an
// *Error, which wraps that attempt's and lists all of them. Errors that are answers, by Stack.Classify, come as they are.
// A panic of f releases all that the call holds and reaches the caller of Do, unless the call is over.
func Do[T any](ctx context.Context, s *Stack, f func(ctx context.Context) (T, error)) (T, error) {
	v, _, err := do(ctx, s, f)
	return v, err
}

// DoOr is Do with an answer for calls that failed for good: the result is that of fallback, which gets the *Error of the
// call. It runs within Stack.Timeout, too: its context has what is left of that, and may have ended, but an answer that
// is at hand is still in time. A fallback that has none returns the error that it got.
//
// It is not called for a caller who has gone away, or whose own deadline has passed, nor for errors that are answers.
func DoOr[T any](ctx context.Context, s *Stack, f func(ctx context.Context) (T, error), fallback func(ctx context.Context, err error) (T, error)) (T, error) {
	inner := ctx
	if s != nil && s.Timeout > 0 {
		var cancel context.CancelFunc
		inner, cancel = s.bound(ctx)
		defer cancel()
	}
	v, o, err := do(inner, s, f)
	if o == Success || ctx.Err() != nil {
		return v, err
	}
	return fallback(inner, err)
}

// Run is Do for functions without a result.
func (s *Stack) Run(ctx context.Context, f func(ctx context.Context) error) error {
	_, err := Do(ctx, s, func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) })
	return err
}

// bound returns a context that ends after Timeout.
func (s *Stack) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, s.Timeout, &timeoutError{"call", s.Timeout})
}

// do is Do. If there is an answer, which may be an error, the outcome is Success.
func do[T any](ctx context.Context, s *Stack, f func(context.Context) (T, error)) (v T, o Outcome, err error) {
	o = Neutral // of calls that panic
	if s == nil {
		s = &noStage
	}
	if s.Timeout > 0 && !timed(ctx, s.Timeout) {
		var cancel context.CancelFunc
		ctx, cancel = s.bound(ctx)
		defer cancel()
	}
	if s.RateLimit != nil || s.Limit != nil {
		var g gate
		if err := g.enter(ctx, s); err != nil {
			return v, o, err
		}
		defer func() { g.leave(s, o) }()
	}
	if s.Hedge != nil && s.Idempotent {
		return hedge(ctx, s, f)
	}
	d := driver{stack: s, ctx: ctx}
	defer d.abandon()
	act := d.begin()
	for {
		switch act.Kind {
		case Launch:
			var inner context.Context
			if inner, err = d.open(act); err != nil {
				act = d.machine.Step(sinceBase(), &Event{Kind: Rejected, Refused: true, Attempt: act.Attempt})
				continue
			}
			v, err = f(inner)
			act = d.answered(act.Attempt, err)
		case Wait:
			act = d.sleep()
		case Finish:
			o, err = d.finish(act)
			return v, o, err
		}
	}
}

var noStage Stack

// timed reports whether the context ends within d anyway.
func timed(ctx context.Context, d time.Duration) bool {
	t, ok := ctx.Deadline()
	return ok && time.Until(t) <= d
}

// driver carries out what the machine decides about one call, attempt by attempt.
type driver struct {
	stack   *Stack
	ctx     context.Context
	start   time.Duration
	last    error // of the attempt that ended last
	refused error // why the last attempt could not be made
	machine Call
	running ticket
	made    uint8 // one bit for each attempt that has a record
	records [MaxAttempts]AttemptRecord
}

// ticket is what an attempt holds while it runs.
type ticket struct {
	held     bool
	permit   Permit
	start    time.Duration
	ctx      context.Context
	cancel   context.CancelFunc // nil if ctx is that of the call
	throttle *Throttle          // nil if there is none
}

func (d *driver) begin() Action {
	d.start = sinceBase()
	if d.ctx.Err() != nil {
		return d.machine.Step(d.start, &Event{Kind: Cancel})
	}
	d.stack.config(d.ctx, d.start, &d.machine.Config)
	return d.machine.Step(d.start, &Event{Kind: Begin})
}

// open asks for what attempt act.Attempt needs and returns its context.
func (d *driver) open(act Action) (context.Context, error) {
	now := d.start
	if act.Cause != First {
		now = sinceBase()
	}
	if d.running, d.refused = d.stack.admit(now); d.refused != nil {
		return nil, d.refused
	}
	d.made |= 1 << act.Attempt
	d.records[act.Attempt] = AttemptRecord{Cause: act.Cause, Outcome: Neutral, Start: now - d.start}
	d.running.limit(d.ctx, d.stack.AttemptTimeout)
	return d.running.ctx, nil
}

// admit asks the stages that may refuse an attempt.
func (s *Stack) admit(now time.Duration) (t ticket, err error) {
	if s.Throttle != nil {
		if !s.Throttle.Allow(now, s.random()) {
			return t, ErrThrottled
		}
		t.throttle = s.Throttle
	}
	if s.Breaker != nil {
		var ok bool
		if t.permit, ok = s.Breaker.Allow(now); !ok {
			t.release(now, Neutral)
			return t, ErrBreakerOpen
		}
	}
	t.held, t.start = true, now
	return t, nil
}

// limit gives the attempt a context that ends after d, unless that is 0.
func (t *ticket) limit(ctx context.Context, d time.Duration) {
	t.ctx = ctx
	if d > 0 && !timed(ctx, d) {
		t.ctx, t.cancel = context.WithTimeoutCause(ctx, d, &timeoutError{"attempt", d})
	}
}

// release gives back what the attempt held.
func (t *ticket) release(now time.Duration, o Outcome) {
	if t.throttle != nil {
		t.throttle.Done(now, o)
	}
	t.held = false
	t.permit.Done(now, o, now-t.start)
	if t.cancel != nil {
		t.cancel()
	}
}

// abandon lets go of an attempt that panicked, and of what the budget lent for it.
func (d *driver) abandon() {
	if d.running.held {
		now := sinceBase()
		d.running.release(now, Neutral)
		d.machine.Step(now, &Event{Kind: Cancel})
	}
}

// answered takes note of how the attempt that runs ended.
func (d *driver) answered(i int, err error) Action {
	ev := Event{Attempt: i}
	now := sinceBase()
	d.judge(&d.running, &d.records[i], now, err, &ev)
	d.running.release(now, ev.Verdict.Outcome)
	d.last = d.records[i].Err
	return d.machine.Step(now, &ev)
}

// judge says what the end of an attempt means. The record has its start.
func (d *driver) judge(t *ticket, r *AttemptRecord, now time.Duration, err error, ev *Event) {
	s := d.stack
	r.Duration = now - d.start - r.Start
	v := s.verdict(err)
	ev.Kind = Done
	switch {
	case v.Outcome == Success:
		if s.Hedge != nil && s.Hedge.Latency != nil {
			s.Hedge.Latency.Observe(now, r.Duration)
		}
	case d.ctx.Err() != nil:
		ev.Kind, v = Cancel, Verdict{Outcome: Neutral}
		if errors.Is(d.ctx.Err(), context.DeadlineExceeded) && r.Duration >= s.usual() {
			v.Outcome = Failure
		}
	case t.ctx.Err() != nil:
		late, ok := errors.AsType[*timeoutError](context.Cause(t.ctx))
		if !ok { // another attempt was faster
			v = Verdict{Outcome: Neutral}
			break
		}
		v, err = Verdict{Outcome: Failure, Retry: true, Unsent: v.Unsent}, late
	}
	if v.Retry {
		// As far as is known all attempts go to the same place.
		ev.Random, ev.Nowhere = s.random(), true
	}
	ev.Verdict, r.Outcome, r.Err, r.Running = v, v.Outcome, err, false
}

// sleep waits for the end of a pause.
func (d *driver) sleep() Action {
	ev := Event{Kind: Tick}
	t := time.NewTimer(d.machine.Wake() - sinceBase())
	defer t.Stop()
	select {
	case <-t.C:
	case <-d.ctx.Done():
		ev.Kind = Cancel
	}
	return d.machine.Step(sinceBase(), &ev)
}

// finish returns the outcome of the call, and its error or what comes with the answer.
func (d *driver) finish(act Action) (Outcome, error) {
	if act.Attempt >= 0 && d.records[act.Attempt].Outcome == Success {
		return Success, d.records[act.Attempt].Err
	}
	e := &Error{Reason: act.Reason, Attempts: d.attempts()}
	switch {
	case act.Reason == Canceled:
		e.Err = gone(d.ctx, d.last)
	case act.Attempt < 0:
		e.Err = d.refused
	case act.Reason == Refused && d.refused != nil:
		e.Err = fmt.Errorf("%w (not repeated: %w)", d.records[act.Attempt].Err, d.refused)
	default:
		e.Err = d.records[act.Attempt].Err
	}
	if n := len(e.Attempts); n > 0 && e.Attempts[n-1].Outcome != Success {
		return e.Attempts[n-1].Outcome, e
	}
	return Neutral, e
}

// attempts lists the attempts made.
func (d *driver) attempts() (list []AttemptRecord) {
	for i := range d.records {
		if d.made>>i&1 == 1 {
			list = append(list, d.records[i])
		}
	}
	return list
}

// gone returns why a context has ended, and the error of the last attempt if that tells more.
func gone(ctx context.Context, last error) error {
	err := ctx.Err()
	if err == nil {
		err = context.Canceled
	}
	if cause := context.Cause(ctx); cause != nil && errors.Is(cause, err) {
		err = cause
	} else if cause != nil {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	if last == nil || errors.Is(err, last) || errors.Is(last, err) {
		return err
	}
	return fmt.Errorf("%w (last attempt: %w)", err, last)
}

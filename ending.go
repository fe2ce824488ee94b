package zerohop

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

var errPanicked = errors.New("zerohop: transport panicked")

// timeoutError says that an attempt was given up because its policy bounds attempts.
type timeoutError time.Duration

func (e timeoutError) Error() string {
	return fmt.Sprintf("zerohop: attempt took longer than %v", time.Duration(e))
}

func (e timeoutError) Timeout() bool { return true }

// limitError says that a call ended because its policy bounds calls. To those who read a body it is what a deadline of
// their own would be.
type limitError time.Duration

func (e limitError) Error() string {
	return fmt.Sprintf("zerohop: call took longer than %v", time.Duration(e))
}

func (e limitError) Timeout() bool   { return true }
func (e limitError) Temporary() bool { return true } // as for context.DeadlineExceeded

func (e limitError) Is(target error) bool { return target == context.DeadlineExceeded }

// finish returns the answer of the call, or its error.
func (c *Call) finish(act resilience.Action) (*Attempt, error) {
	c.mesh().overdue.forget(c)
	if act.Reason == resilience.OverBudget {
		c.target.service.lacks(c.target.budget)
	}
	var a *Attempt
	if act.Attempt >= 0 {
		a = c.slot(act.Attempt) // needs no lock: nothing is launched any more, and answer was set with over
		if !a.answer {          // it is being let go of, or was, but may have kept its answer
			c.more.letting.Wait()
			a = c.kept(a)
			c.elect(a, true)
		}
	}
	if a != nil && a.answers() {
		if in := c.said.inbound; in != nil { // now, because the server it is for may answer before it has read all of this answer
			c.mu.Lock()
			made := c.made()
			c.mu.Unlock()
			in.learn(a.verdict.Outcome, act.Reason, made)
		}
		if a.ended.Load()&1 != 0 {
			c.close(a.Status, a.verdict.Outcome, a.Err)
		}
		return a, nil
	}
	e := &Error{Reason: Failed, Detail: act.Reason}
	outcome := resilience.Failure
	switch {
	case act.Reason == resilience.Canceled:
		e.Reason, e.Err, outcome = Ended, c.ended(), resilience.Neutral
	case a == nil && act.Reason == resilience.OutOfTime: // its context is about to end
		e.Reason, e.Err, outcome = Ended, context.DeadlineExceeded, resilience.Neutral
	case a != nil:
		e.Err = a.Err
		if v := a.verdict; v.Outcome != resilience.Neutral || !v.Retry { // else no endpoint failed, but the call did
			outcome = v.Outcome
		}
	default:
		e.Reason, e.After, e.Err = c.refusal()
		if act.Reason == resilience.Refused {
			outcome = resilience.Neutral
		}
	}
	e.Attempts, e.Sent = c.records()
	if a != nil {
		c.elect(a, false)
		a.End(a.verdict.Outcome, nil)
	}
	return nil, c.fail(e, outcome)
}

// elect makes an attempt the answer of the call, or no longer. Who reads a Report may look at it.
func (c *Call) elect(a *Attempt, answer bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a.answer = answer
}

// answers reports whether there is something of the service to hand out.
func (a *Attempt) answers() bool { return a.Err == nil || a.Status >= 0 }

// kept returns the attempt that is the answer of a call of which all have failed, given the best one by the machine: if
// its answer was not kept, another one that was, and else the last error. Those that were let go of are no longer written.
func (c *Call) kept(best *Attempt) *Attempt {
	if r := best.rarity().record; best.answers() || r == nil || r.Status < 0 { // else it did answer
		return best
	}
	var last *Attempt
	for i := range c.machine.Launched() {
		a := c.slot(i)
		r := a.rarity()
		if !a.judged || r.refused != nil || r.record == nil || r.record.Status >= 0 && !a.answers() {
			continue
		}
		if last == nil || a.answers() && !last.answers() || a.answers() == last.answers() && a.start+a.took >= last.start+last.took {
			last = a
		}
	}
	if last != nil {
		return last
	}
	return best
}

// Failure returns the error of a call whose answer is that of attempt a: a failure that Run returned as the
// answer, because it is one of the service. It is to be called before a.End.
func (c *Call) Failure(a *Attempt) *Error {
	c.mu.Lock()
	e := &Error{Service: c.target.service.name, Reason: Failed, Detail: c.next.reason, Err: a.Err}
	c.mu.Unlock()
	e.Attempts, e.Sent = c.records()
	e.Explanation = c.explainFailure(a)
	return e
}

// unready is the end of a call whose service has no endpoints. ctx is what the call waited under.
func (c *Call) unready(ctx context.Context, err error) error {
	e := &Error{Reason: NoEndpoints, Detail: resilience.Unroutable, Err: err}
	outcome := resilience.Failure
	if ctx.Err() != nil {
		e.Reason, e.Detail, outcome = Ended, resilience.Canceled, resilience.Neutral
	}
	if errors.Is(err, ErrClosed) {
		e.Reason = Closed
	}
	return c.fail(e, outcome)
}

// ended is the error of a call that its caller gave up: that of the context, and that of the last attempt
// if it tells more.
func (c *Call) ended() error {
	err := c.ctx.Err()
	if err == nil {
		err = context.Canceled
	}
	var last error
	c.mu.Lock()
	for i := range c.machine.Launched() {
		if r := c.slot(i).rarity(); r.record != nil && r.record.Err != nil && (r.refused != nil || !c.machine.Running(i)) {
			last = r.record.Err
		}
	}
	c.mu.Unlock()
	told := withCause(c.ctx, err)
	if last == nil || errors.Is(last, err) || errors.Is(told, last) {
		return told
	}
	return fmt.Errorf("%w (last attempt: %w)", told, last)
}

// withCause adds the cause of a context that ended with err, if it has one of its own: net/http reports nothing else.
func withCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}

// refusal says why no attempt could be made.
func (c *Call) refusal() (Reason, time.Duration, error) {
	s := c.target.service
	c.mu.Lock()
	err := c.first.rarity().refused
	c.mu.Unlock()
	if reason, after, err := refusalOf(err); reason != "" {
		return reason, after, err
	}
	switch {
	case c.mesh().ctx.Err() != nil:
		return Closed, 0, ErrClosed
	case errors.Is(err, loadbalance.ErrUnavailable):
		return Unavailable, s.recovery(), err
	case err == nil:
		err = loadbalance.ErrNoEndpoints
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil && !errors.Is(s.err, discovery.ErrUnknownService) {
		err = fmt.Errorf("%w (%w)", err, s.err)
	}
	return NoEndpoints, 0, err
}

// records lists the attempts made, and reports whether the service may have begun to work on one.
func (c *Call) records() (list []AttemptRecord, sent bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recordsLocked()
}

func (c *Call) recordsLocked() (list []AttemptRecord, sent bool) {
	for i := range c.machine.Launched() {
		a := c.slot(i)
		switch {
		case !a.begun, a.judged && a.rarity().refused != nil, !a.judged && !c.machine.Running(i): // without an endpoint
			continue
		case a.rarity().record != nil:
			list = append(list, *a.rarity().record)
		default:
			list = append(list, a.result())
		}
		sent = sent || !a.judged || !a.verdict.Unsent
	}
	return list, sent
}

// fail completes the error of a call and ends the call with it.
func (c *Call) fail(e *Error, outcome resilience.Outcome) error {
	e.Service = c.target.service.name
	c.mu.Lock()
	c.over, c.next.reason = true, e.Detail
	c.mu.Unlock()
	c.close(-1, outcome, e)
	return e
}

// close ends the call.
func (c *Call) close(status int, outcome resilience.Outcome, err error) {
	if !c.closed.CompareAndSwap(false, true) {
		return
	}
	hooks, in := &c.mesh().cfg.Hooks, c.said.inbound
	var result CallResult
	var made *Explanation
	lost := c.explains(outcome, err)
	if lost || hooks.CallDone != nil || in != nil {
		result = c.result(status, outcome, err)
	}
	if lost { // before the context ends
		made = c.explained(&result)
	}
	outer := c.ctx
	if d := c.details; d != nil {
		if d.cancel != nil {
			outer = d.outer
			d.cancel()
		}
		if d.ticket != nil {
			c.leave(outcome)
		}
		if d.shadow != nil {
			d.shadow.end(c, outcome)
		}
	}
	in.learn(outcome, result.Detail, result.Attempts)
	if h := hooks.Explained; h != nil && made != nil {
		h(outer, made)
	}
	if h := hooks.CallDone; h != nil {
		h(outer, c.info(), result)
	}
}

// result returns how the call ended.
func (c *Call) result(status int, outcome resilience.Outcome, err error) CallResult {
	r := CallResult{Status: status, Outcome: outcome, Err: err, Duration: c.mesh().now() - c.start}
	c.mu.Lock()
	r.Detail, r.Attempts = c.next.reason, c.made()
	c.mu.Unlock()
	if c.details != nil {
		r.Delayed = c.details.delayed
	}
	r.flag = c.flag(&r)
	return r
}

// made counts the attempts that got as far as an endpoint and were not refused there. c.mu is held.
func (c *Call) made() (n int) {
	for i := range c.machine.Launched() {
		if a := c.slot(i); (a.Node() != nil || c.own && a.started) && !(a.judged && a.rarity().refused != nil) {
			n++
		}
	}
	return n
}

package zerohop

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// Call drives one logical call: it asks resilience.Call what to do and does it. Transports embed one in what
// they keep per call, and run it. The zero value is ready, and good for one Run.
//
// The first attempt runs in the goroutine of the caller, without a timer; further goroutines exist only while
// backups run.
type Call struct {
	mesh     *Mesh
	target   *target
	exchange Exchange
	outer    context.Context // that CallDone gets
	ctx      context.Context // of the call, from Run to the end of its answer: backups start under it
	cancel   context.CancelFunc
	info     CallInfo
	inbound  *Inbound
	late     bool
	stream   bool
	timeout  time.Duration // of an attempt
	listed   watched

	mu      sync.Mutex // guards what follows
	machine resilience.Call
	over    bool              // the machine has finished
	next    resilience.Action // its last action if over; else what a backup left to do
	left    bool              // next is to be done
	waiting bool              // the caller's goroutine is in wait
	closed  bool              // CallDone was called
	made    int               // attempts that got as far as an endpoint
	signal  chan struct{}     // tells the caller's goroutine that a backup ended
	first   Attempt
	more    [resilience.MaxAttempts - 1]*Attempt
	tried   []*loadbalance.Node
	room    [2]*loadbalance.Node

	letting sync.WaitGroup // attempts that are being let go of; their answers are not to be touched
}

// Run makes the call. It returns the attempt whose answer is the caller's, be it a failure: the transport then
// owes it a call of End. Or it returns an *Error, and the call is over.
func (c *Call) Run(ctx context.Context, m *Mesh, r *Request, x Exchange) (*Attempt, error) {
	now := time.Now()
	said := heard(ctx)
	o := &said.options
	t, err := m.target(&r.Request)
	switch {
	case m.ctx.Err() != nil || errors.Is(err, ErrClosed):
		return nil, &Error{Service: r.Service, Reason: Closed, Detail: resilience.Unroutable, Err: ErrClosed}
	case err != nil:
		return nil, &Error{Service: r.Service, Reason: NoEndpoints, Detail: resilience.Unroutable, Err: err}
	}
	t.service.touch(now)
	c.mesh, c.target, c.exchange, c.late, c.stream = m, t, x, r.LatePick, r.Stream
	c.info = CallInfo{Service: t.service.name, Host: r.Service, Route: t.route, Protocol: r.Protocol, Method: r.Method, Start: now}
	if r.Protocol == "grpc" {
		c.info.Method = r.Path
	}
	said.report.add(c)
	if h := m.cfg.Hooks.CallStart; h != nil {
		ctx = h(ctx, c.info)
	}
	c.outer, c.ctx = ctx, ctx
	if d := pick(max(o.Timeout, 0), t.policy.Timeout); d > 0 {
		c.ctx, c.cancel = context.WithTimeout(ctx, d)
	}
	if err := c.ctx.Err(); err != nil {
		return nil, c.fail(&Error{Reason: Ended, Detail: resilience.Canceled, Err: withCause(c.ctx, err)}, resilience.Neutral)
	}
	if !t.service.serving.Load() {
		if err := t.service.wait(c.ctx, o.WaitReady || r.WaitReady); err != nil {
			return nil, c.unready(err)
		}
		now = time.Now()
	}
	c.timeout = pick(max(o.AttemptTimeout, 0), t.policy.AttemptTimeout)
	c.tried = c.room[:0]
	c.listed.call = c
	c.machine.Config = t.config(c.ctx, now, r, o)
	c.inbound = said.inbound
	c.inbound.restrain(&c.machine.Config)
	return c.drive(now)
}

// drive carries out what the machine decides until it finishes.
func (c *Call) drive(now time.Time) (*Attempt, error) {
	returned := false
	defer func() {
		if !returned { // user code panicked: let go of everything, and let the panic pass
			c.mesh.overdue.forget(&c.listed)
			c.step(time.Now(), resilience.Event{Kind: resilience.Cancel})
			c.close(time.Now(), -1, resilience.Neutral, errPanicked)
		}
	}()
	act := c.step(now, resilience.Event{Kind: resilience.Begin})
	for {
		switch act.Kind {
		case resilience.Launch:
			act = c.attempt(now, act)
		case resilience.Wait:
			act = c.wait(act.Wake)
		case resilience.Finish:
			a, err := c.finish(act)
			returned = true
			return a, err
		}
		if act.Kind == resilience.Launch {
			now = time.Now()
		}
	}
}

// step tells the machine what happened. When it finishes, the attempts that still run are given up.
func (c *Call) step(now time.Time, ev resilience.Event) resilience.Action {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stepLocked(now, ev)
}

func (c *Call) stepLocked(now time.Time, ev resilience.Event) resilience.Action {
	if c.over {
		return c.next
	}
	act := c.machine.Step(now, ev)
	switch act.Kind {
	case resilience.Launch:
		c.slot(act.Attempt).backup = c.machine.Active() > 1
	case resilience.Finish:
		c.over, c.next = true, act
		for i := range c.machine.Launched() {
			if a := c.slot(i); c.machine.Running(i) && a.cancel != nil {
				a.cancel()
			}
		}
	}
	return act
}

// slot returns the place of attempt i. c.mu is held.
func (c *Call) slot(i int) *Attempt {
	if i == 0 {
		return &c.first
	}
	if c.more[i-1] == nil {
		c.more[i-1] = &Attempt{}
	}
	return c.more[i-1]
}

// attempt makes attempt act.Attempt in the present goroutine and returns what to do next.
func (c *Call) attempt(now time.Time, act resilience.Action) resilience.Action {
	c.mu.Lock()
	if c.over {
		defer c.mu.Unlock()
		return c.next
	}
	a := c.slot(act.Attempt)
	a.Number, a.Status, a.call, a.begun = act.Attempt, -1, c, now
	c.mu.Unlock()

	returned := false
	defer func() {
		if !returned { // user code panicked
			a.End(resilience.Neutral, errPanicked)
		}
	}()
	if !act.Wake.IsZero() {
		a.wait = act.Wake.Sub(now)
	}
	ctx, ok := c.open(a, act)
	if !ok {
		returned = true
		return c.step(now, resilience.Event{Kind: resilience.Rejected, Attempt: act.Attempt})
	}
	next := c.answered(a, c.exchange.Attempt(ctx, a))
	returned = true
	return next
}

// open prepares an attempt: its endpoint and its context. It returns false if there is no endpoint.
func (c *Call) open(a *Attempt, act resilience.Action) (context.Context, bool) {
	if !c.late {
		if _, err := a.Pick(a.begun, c.target.service.balancer.Set()); err != nil {
			return nil, false
		}
	}
	a.ctx = c.ctx
	if h := c.mesh.cfg.Hooks.AttemptStart; h != nil {
		a.ctx = h(a.ctx, c.info, a.info())
	}
	a.started = true
	if a.backup || c.timeout > 0 || !act.Wake.IsZero() {
		return c.cancelable(a), true
	}
	return a.ctx, true
}

// cancelable makes the attempt one that can be given up.
func (c *Call) cancelable(a *Attempt) context.Context {
	ctx, cancel := context.WithCancel(a.ctx)
	if c.timeout > 0 {
		// Not a deadline of the context: that would cut the body of an answer, too.
		a.alarm = time.AfterFunc(c.timeout, cancel)
	}
	if a.spawned { // Close waits for it
		a.detach = context.AfterFunc(c.mesh.ctx, cancel)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	a.cancel = cancel
	if c.over {
		cancel()
	}
	return ctx
}

// answered judges an attempt that has returned, tells the machine and lets go of the attempt unless it is the
// answer.
func (c *Call) answered(a *Attempt, v resilience.Verdict) resilience.Action {
	now := time.Now()
	a.took = now.Sub(a.begun)
	a.latency = max(a.took-a.Idle, 0)
	if !a.Arrived() && v.Outcome != resilience.Success && c.ctx.Err() == nil {
		v = resilience.Verdict{Outcome: resilience.Failure, Retry: true, Unsent: v.Unsent}
		a.Err, a.Status = timeoutError(c.timeout), -1
	}
	if f := c.mesh.cfg.Classify; f != nil {
		v = f(c.info, AttemptResult{Status: a.Status, Outcome: v.Outcome, Err: a.Err, Latency: a.took, Duration: a.took}, v)
	}
	c.mesh.overdue.forget(&c.listed)
	ev := resilience.Event{Kind: resilience.Done, Attempt: a.Number, Random: c.mesh.cfg.Rand()}
	shut := a.detach != nil && !a.detach()

	c.mu.Lock()
	unsent := v.Unsent || a.refused != nil
	switch gone := c.ctx.Err(); {
	case v.Outcome == resilience.Success:
		if c.stream {
			a.latency = 0
		}
	case c.over && c.next.Reason != resilience.Canceled:
		// Given up for another attempt: the endpoint takes at least as long as this one ran.
		v = resilience.Verdict{Outcome: resilience.Neutral, Unsent: unsent}
		a.overdue = c.machine.Config.Backup > 0 && a.latency >= c.machine.Config.Backup
	case gone != nil:
		if a.Node() == nil { // no endpoint was reached in time, and the transport knows why
			a.refused = a.Err
		}
		ev.Kind, v = resilience.Cancel, resilience.Verdict{Outcome: c.blame(a, gone), Unsent: unsent}
		if v.Outcome == resilience.Neutral {
			a.latency = 0
		}
	case a.refused != nil, shut, c.over:
		ev.Kind, v = resilience.Rejected, resilience.Verdict{Outcome: resilience.Neutral, Unsent: unsent}
		a.latency = 0
	case v.Outcome == resilience.Neutral:
		a.latency = 0
	}
	a.verdict, ev.Verdict = v, v
	act := c.stepLocked(now, ev)
	a.answer = act.Kind == resilience.Finish && act.Attempt == a.Number
	mine := a.answer
	if !mine {
		record := a.result()
		a.record = &record
		c.letting.Add(1)
	}
	c.mu.Unlock()

	if v.Outcome == resilience.Success && a.latency > 0 {
		c.target.latency.Observe(now.Sub(c.mesh.base), a.latency)
	}
	if !mine {
		c.letGo(a)
	}
	return act
}

// letGo ends an attempt that is not the answer.
func (c *Call) letGo(a *Attempt) {
	defer c.letting.Done()
	c.exchange.Release(a)
	a.End(a.verdict.Outcome, nil)
}

// blame decides whose fault it is that the caller went away before an answer came. That the caller cancelled
// says nothing about the endpoint. That its deadline passed does, if the endpoint had as much time as it usually
// takes.
func (c *Call) blame(a *Attempt, gone error) resilience.Outcome {
	if !errors.Is(gone, context.DeadlineExceeded) || a.Node() == nil {
		return resilience.Neutral
	}
	usual, _, known := c.target.latency.Quantiles()
	if !known {
		usual = unknownUsual
	}
	if a.latency < usual {
		return resilience.Neutral
	}
	return resilience.Failure
}

// unknownUsual is what an endpoint is taken to need usually before anything is known.
const unknownUsual = unlearnedBackup / 2

// Propagates reports whether there is a hook that sets headers of attempts.
func (c *Call) Propagates() bool { return c.mesh.cfg.Hooks.Propagate != nil }

// Propagate calls the hook that sets headers of an attempt, given the context of the attempt.
func (c *Call) Propagate(ctx context.Context, set func(key, value string)) {
	if h := c.mesh.cfg.Hooks.Propagate; h != nil {
		h(ctx, set)
	}
}

// avoid returns the nodes that were tried. Nodes tried later do not show in the slice.
func (c *Call) avoid() []*loadbalance.Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tried
}

package zerohop

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
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
	target   *target
	exchange Exchange
	ctx      context.Context     // of the call, from Run to the end of its answer: attempts start under it
	said     *sayings            // by the context that Run got
	details  *details            // nil if nobody asks for them
	hash     uint64              // of its key, 0 if it has none
	latency  *resilience.Latency // learned from attempts like these; nil if nothing is known yet
	place    watched
	start    time.Duration // after the base of the mesh, as are all times in here
	listed   atomic.Bool   // place is in its list
	closed   atomic.Bool   // CallDone was called
	late     bool
	stream   bool
	named    bool // what is called is an operation, and what is learned is for that
	own      bool // the transport has endpoints of its own
	whole    bool // attempts are over when they return, and nothing gives them up before

	over    bool // the machine has finished; guarded by mu, as is all that follows
	left    bool // next is to be done
	waiting bool // the caller's goroutine is in wait
	mu      sync.Mutex
	machine resilience.Call
	next    action // the machine's last action if over; else what a backup left to do
	explain explaining
	failing bool   // an attempt has failed, so that those to come are recorded
	match   int16  // of the rule, -1 if none; this and draw are not guarded
	draw    uint64 // the random word of the route, 0 if it needed none
	first   Attempt
	more    *further
}

// action is a resilience.Action in little space.
type action struct {
	kind    resilience.ActionKind
	cause   resilience.Cause
	reason  resilience.Reason
	attempt int8
}

func packed(a resilience.Action) action { return action{a.Kind, a.Cause, a.Reason, int8(a.Attempt)} }

func (a action) unpacked() resilience.Action {
	return resilience.Action{Kind: a.kind, Cause: a.cause, Reason: a.reason, Attempt: int(a.attempt)}
}

// further is what a call needs when its first attempt is not its last.
type further struct {
	attempts [resilience.MaxAttempts - 1]Attempt
	detach   [resilience.MaxAttempts - 1]func() bool // takes the context of a spawned one off that of the mesh
	dropped  []*loadbalance.Node                     // chosen for attempts that then chose others
	sound    bool                                    // they are for endpoints without a penalty
	signal   chan struct{}                           // tells the caller's goroutine that a backup ended
	letting  sync.WaitGroup                          // attempts that are being let go of; their answers are not to be touched
	refusals []StageRefusal                          // of attempts
	made     *Explanation                            // nil if there is none (yet)
	final    bool                                    // it is that of the end
}

// Run makes the call. It returns the attempt whose answer is the caller's, be it a failure: the transport then
// owes it a call of End. Or it returns an *Error, and the call is over.
func (c *Call) Run(ctx context.Context, m *Mesh, r *Request, x Exchange) (*Attempt, error) {
	err := c.prepare(ctx, m, r, x)
	if err != nil {
		return nil, err
	}
	now := c.start
	if c.target.actions != nil || c.target.backend != nil {
		if now, err = c.act(now, r); err != nil {
			return nil, err
		}
	}
	if err = c.bound(r); err != nil {
		return nil, err
	}
	if c.target.rate != nil || c.target.flight != nil {
		if now, err = c.admit(now); err != nil {
			return nil, err
		}
	}
	return c.proceed(now, r)
}

// prepare finds out where the call goes and under which policy.
func (c *Call) prepare(ctx context.Context, m *Mesh, r *Request, x Exchange) error {
	said := heard(ctx)
	o := &said.options
	lane := m.laneOf(ctx, said, r.Header)
	r.Lane, r.Key = lane, o.HashKey
	t, err := r.target(m)
	switch {
	case m.ctx.Err() != nil || errors.Is(err, ErrClosed):
		return m.stillborn(ctx, r, o, &Error{Service: r.Service, Reason: Closed, Detail: resilience.Unroutable, Err: ErrClosed})
	case err != nil:
		return m.stillborn(ctx, r, o, &Error{Service: r.Service, Reason: NoEndpoints, Detail: resilience.Unroutable, Err: err})
	}
	c.explain, c.match, c.draw = t.explains(o), int16(min(r.match, math.MaxInt16)), r.draw
	c.target, c.exchange, c.said, c.late, c.stream = t, x, said, r.LatePick || r.OwnEndpoints, r.Stream
	c.latency, c.named, c.own = t.latencyOf(r.Operation), r.Operation != "", r.OwnEndpoints
	c.machine.Config = t.limits
	c.machine.Config.Criticality = said.criticality(&t.policy)
	if t.keyed && (o.HashKey != "" || len(t.policy.Hash) > 0) {
		c.hash = hashOf(o.HashKey, t.policy.Hash, x)
	}
	sh := m.shadow.Load()
	if r.Copy != nil {
		sh = nil
	}
	now := c.begin(r, sh != nil)
	t.service.touch(now)
	if lane != "" {
		c.tag(lane)
	}
	if sh != nil {
		c.details.shadow = sh.begin(ctx, c, r, now)
	}
	if !c.own {
		c.guideBy(t.guide(r.Header, o, lane))
	}
	said.report.add(c)
	if h := m.cfg.Hooks.CallStart; h != nil {
		ctx = h(ctx, c.info())
	}
	c.ctx = ctx
	return nil
}

// bound bounds the call by its options and its policy, unless it is, and ends it if its caller has gone away.
func (c *Call) bound(r *Request) error {
	d := pick(max(c.said.options.Timeout, 0), c.target.policy.Timeout)
	if r.Timeout > 0 && (d == 0 || r.Timeout < d) {
		d = r.Timeout
	}
	if d > 0 && (c.details == nil || c.details.cancel == nil) {
		c.limit(d)
	}
	if err := c.ctx.Err(); err != nil {
		return c.fail(&Error{Reason: Ended, Detail: resilience.Canceled, Err: withCause(c.ctx, err)}, resilience.Neutral)
	}
	return nil
}

// proceed makes the call once nothing refuses it any more.
func (c *Call) proceed(now time.Duration, r *Request) (*Attempt, error) {
	t, m, o := c.target, c.mesh(), &c.said.options
	if !c.own && !t.service.serving.Load() {
		if err := c.await(o.WaitReady || r.WaitReady); err != nil {
			return nil, err
		}
		now = m.now()
	}
	c.machine.Config.Deadline = c.deadline(now)
	t.limit(&c.machine.Config, c.latency, now, r, o)
	if c.guide().stays() || c.criticality() < resilience.Critical {
		c.machine.Config.Backup = 0
	}
	c.whole = r.Whole && c.timeout() == 0 && c.machine.Config.Backup == 0
	if in := c.said.inbound; in != nil {
		c.machine.Config.Nested = in.Attempt > 0
	}
	return c.drive(now, nil, resilience.Verdict{})
}

// limit bounds the call.
func (c *Call) limit(d time.Duration) {
	if c.details == nil {
		c.details = &details{}
	}
	c.details.outer = c.ctx
	c.ctx, c.details.cancel = context.WithTimeoutCause(c.ctx, d, limitError(d))
}

// deadline returns when the caller stops waiting, 0 if that is never.
func (c *Call) deadline(now time.Duration) time.Duration {
	d, ok := c.ctx.Deadline()
	if !ok {
		return 0
	}
	left := d.Sub(c.mesh().base) - now
	if d == d.Round(0) { // it has no monotonic reading: what counts is the wall clock's present time
		left = time.Until(d)
	}
	return max(later(now, left), 1)
}

// Mesh returns the mesh that the call is made by. It must not be called before Run.
func (c *Call) Mesh() *Mesh { return c.mesh() }

func (c *Call) mesh() *Mesh { return c.target.service.mesh }

// timeout returns the bound of an attempt, 0 if there is none.
func (c *Call) timeout() time.Duration {
	return pick(max(c.said.options.AttemptTimeout, 0), c.target.policy.AttemptTimeout)
}

// drive carries out what the machine decides until it finishes or an attempt is left open. It starts with the answer of
// attempt answered, or with the call if that is nil.
func (c *Call) drive(now time.Duration, answered *Attempt, v resilience.Verdict) (*Attempt, error) {
	returned := false
	defer func() {
		if !returned { // user code panicked: let go of everything, and let the panic pass
			c.mesh().overdue.forget(c)
			c.step(c.mesh().now(), &resilience.Event{Kind: resilience.Cancel})
			if answered != nil {
				answered.End(resilience.Neutral, errPanicked)
			}
			c.close(-1, resilience.Neutral, errPanicked)
		}
	}()
	var act resilience.Action
	if answered == nil {
		act = c.step(now, &resilience.Event{Kind: resilience.Begin})
	} else {
		act = c.answered(answered, v)
	}
	for {
		switch act.Kind {
		case resilience.Launch:
			n := act.Attempt
			act = c.attempt(now, act)
			if a := c.slot(n); a.opened {
				returned = true
				return a, nil
			}
		case resilience.Wait:
			act = c.wait()
		case resilience.Finish:
			a, err := c.finish(act)
			returned = true
			return a, err
		}
		if act.Kind == resilience.Launch {
			now = c.mesh().now()
		}
	}
}

// step tells the machine what happened. When it finishes, the attempts that still run are given up.
func (c *Call) step(now time.Duration, ev *resilience.Event) resilience.Action {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stepLocked(now, ev)
}

func (c *Call) stepLocked(now time.Duration, ev *resilience.Event) resilience.Action {
	if c.over {
		return c.next.unpacked()
	}
	if ev.Kind != resilience.Begin && (ev.Kind != resilience.Done || ev.Verdict.Retry) && c.target.service.operations.paused.Load() {
		ev.Paused = true
	}
	act := c.machine.Step(now, ev)
	switch act.Kind {
	case resilience.Launch:
		a := c.slot(act.Attempt)
		a.Number, a.Status, a.call, a.cause = act.Attempt, -1, c, act.Cause
		if act.Cause == resilience.First { // it begins at once
			a.begin(now)
		}
	case resilience.Finish:
		c.over, c.next = true, packed(act)
		for i := range c.machine.Launched() {
			if c.machine.Running(i) {
				c.slot(i).scope().cancel()
			}
		}
	}
	return act
}

// slot returns the place of attempt i. c.mu is held, or no attempt can be launched any more.
func (c *Call) slot(i int) *Attempt {
	if i == 0 {
		return &c.first
	}
	return &c.rest().attempts[i-1]
}

// rest returns what calls with further attempts have. c.mu is held.
func (c *Call) rest() *further {
	if c.more == nil {
		c.more = &further{signal: make(chan struct{}, 1)}
	}
	return c.more
}

// attempt makes attempt act.Attempt in the present goroutine and returns what to do next.
func (c *Call) attempt(now time.Duration, act resilience.Action) resilience.Action {
	a := &c.first
	if act.Cause != resilience.First {
		c.mu.Lock()
		if c.over {
			defer c.mu.Unlock()
			return c.next.unpacked()
		}
		a = c.slot(act.Attempt)
		a.begin(now)
		c.mu.Unlock()
	}
	returned := false
	defer func() {
		if !returned { // user code panicked
			a.End(resilience.Neutral, errPanicked)
		}
	}()
	var next resilience.Action
	if c.open(now, a) {
		var ctx context.Context = a.scope()
		if c.stream {
			ctx = a.scope().prompt()
		}
		v := c.exchange.Attempt(ctx, a)
		switch {
		case !a.opened:
			next = c.answered(a, v)
		case a.spawned || !a.Arrived():
			a.opened = false
			next = c.answered(a, resilience.Verdict{Outcome: resilience.Failure})
		}
	} else {
		next = c.step(now, &resilience.Event{Kind: resilience.Rejected, Attempt: act.Attempt, Refused: a.refused()})
	}
	returned = true
	return next
}

// open prepares an attempt: its endpoint and its context. It returns false if there is no endpoint, or if it is refused.
func (c *Call) open(now time.Duration, a *Attempt) bool {
	if c.target.service.guarded() && !c.target.copies && !c.pass(now, a) {
		return false
	}
	if !c.late {
		set := c.target.service.balancer.Set()
		if _, err := a.pickAt(now, set, set); err != nil {
			a.drop(now)
			return false
		}
	}
	if h := c.mesh().cfg.Hooks.AttemptStart; h != nil {
		if ctx := h(c.ctx, c.info(), a.info()); !same(ctx, c.ctx) {
			c.mu.Lock() // it may be cancelled meanwhile
			a.ownRarity().ctx = ctx
			c.mu.Unlock()
		}
	}
	a.started = true
	c.target.service.touch(now)
	c.target.service.stir()
	if c.own && a.joinable {
		c.mesh().overdue.watch(c, a.start+c.machine.Config.Backup)
	}
	if d := c.timeout(); d > 0 {
		// Not a deadline of the context: that would cut the body of an answer, too.
		alarm := time.AfterFunc(d, a.scope().cancel)
		c.mu.Lock()
		a.ownRarity().alarm = alarm
		c.mu.Unlock()
	}
	if a.spawned { // Close waits for it
		c.more.detach[a.Number-1] = context.AfterFunc(c.mesh().ctx, a.scope().cancel)
	}
	return true
}

// avoid returns the nodes that were tried, and whether those under a penalty are to be avoided, too.
func (c *Call) avoid() (tried []*loadbalance.Node, penalized bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	tried = slices.Clone(c.rest().dropped)
	for i := range c.machine.Launched() {
		if n := c.slot(i).Node(); n != nil {
			tried = append(tried, n)
		}
	}
	return tried, c.rest().sound
}

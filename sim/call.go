package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// mesh is that of one client, or of one endpoint that calls others.
type mesh struct {
	*zerohop.Mesh
	process
	name    string
	feeds   map[string]*feed // by service
	watched []*feed
	stops   []func()
	ledgers map[string]*ledger                  // by service
	open    map[*loadbalance.Node]int           // attempts under way
	ejected map[*loadbalance.Node]time.Duration // when that was first seen
	turns   map[string]*turns                   // of rate limits, by service
	gates   map[string]gate                     // by service
	routed  bool                                // not all calls of a service are under its own limits

	pausedFor time.Duration // before the last repetition
	pauses    int           // as long as that in a row
}

// newMesh makes a mesh that knows the endpoints of the services it is to call.
func (w *world) newMesh(name string, cfg zerohop.Config, services ...string) (*mesh, error) {
	m := &mesh{
		process: process{world: w, rnd: w.random("process " + name)},
		name:    name, feeds: map[string]*feed{}, ledgers: map[string]*ledger{}, open: map[*loadbalance.Node]int{}, ejected: map[*loadbalance.Node]time.Duration{},
		turns: map[string]*turns{}, gates: map[string]gate{}, routed: len(cfg.Spec.Routes) > 0,
	}
	for _, s := range slices.Compact(slices.Sorted(slices.Values(services))) {
		r := &w.services[s].registry
		w.feeds++
		f := &feed{
			registry: r, mesh: m, service: s, rnd: w.random("feed " + name + " of " + s), news: make(chan news, 1),
			apart: time.Duration(w.feeds) * time.Microsecond,
		}
		m.feeds[s], m.gates[s] = f, gateOf(&cfg.Spec, s)
		m.watched, r.feeds = append(m.watched, f), append(r.feeds, f)
	}
	cfg.Resolver, cfg.Rand = m, shared(w.stream("mesh "+name))
	cfg.Checkers = w.checkers(cfg.Checkers)
	if cfg.Instance == "" {
		cfg.Instance = name
	}
	var err error
	if m.Mesh, err = zerohop.New(cfg); err != nil {
		return nil, err
	}
	w.meshes = append(w.meshes, m)
	for _, f := range m.watched {
		stop, err := m.Subscribe(f.service, f.follow)
		if err != nil {
			return nil, err
		}
		m.stops = append(m.stops, stop)
	}
	return m, nil
}

// shared lets the goroutines of a mesh draw, too. No two do at the same time, but only the lock shows that to the race detector.
func shared(source rand.Source) func() uint64 {
	var mu sync.Mutex
	return func() uint64 {
		mu.Lock()
		defer mu.Unlock()
		return source.Uint64()
	}
}

// call is a logical call, from the client's side.
type call struct {
	world    *world
	mesh     *mesh
	stepped  zerohop.Stepped
	request  zerohop.Request
	ctx      *deadline
	inbound  *zerohop.Inbound       // what it is made for, nil if by a client
	level    resilience.Criticality // of the call itself
	waits    bool                   // for a turn or a place
	told     bool                   // that it has a place, or gets none
	passed   bool                   // somebody who is more critical, and waits for a place
	began    time.Duration
	alarm    time.Duration // when it is to be woken, 0 if never
	tardy    bool          // one of its timers was set while they are late
	place    int           // in world.calls
	attempts []*attempt
	runs     int                               // how often it was executed
	resend   bool                              // the last answer was that the attempt was not sent
	left     bool                              // its caller went away
	failed   struct{ at, after time.Duration } // the last attempt that has, and the Retry-After of its answer
	series   *Series
	done     func(ok bool) // called at the end
}

// attempt is one of a call.
type attempt struct {
	call     *call
	step     *zerohop.Attempt
	ctx      context.Context
	node     *loadbalance.Node
	began    time.Duration
	endpoint *endpoint
	request  *request
	left     bool // nobody waits for the answer
	answered bool
	paid     bool // out of the budget
	ended    bool
}

// begin makes the call, which has time until end. 0 means for ever.
func (c *call) begin(service string, unsafe bool, end time.Duration) {
	w, parent := c.world, context.Background()
	if c.inbound != nil {
		parent = zerohop.WithInbound(parent, c.inbound)
	}
	if c.level != resilience.Unspecified {
		parent = zerohop.WithCall(parent, zerohop.CallOptions{Criticality: c.level})
	}
	c.began, c.ctx = w.now, &deadline{Context: parent, world: w, at: end}
	c.request = zerohop.Request{Request: routing.Request{Service: service, Method: "GET"}, Protocol: "sim", Idempotent: !unsafe}
	if unsafe {
		c.request.Method = "POST"
	}
	c.place = len(w.calls)
	w.calls = append(w.calls, c)
	w.note(callBegun, uint64(end))
	c.series.begin(w.now)
	c.stepped.Ready = func() {
		c.waits, c.told, c.passed = false, true, c.outruns()
		c.mesh.timer(w.now, c.wake)
	}
	c.mesh.ledgerOf(service).calls++
	c.stepped.Begin(c.ctx, c.mesh.Mesh, &c.request, c)
	c.waits = !c.stepped.Over() && len(c.attempts) == 0
	w.checkQueue(c)
	c.proceed()
}

// Attempt sends an attempt on its way.
func (c *call) Attempt(ctx context.Context, a *zerohop.Attempt) resilience.Verdict {
	a.Open()
	w, n := c.world, a.Node()
	e := w.byAddr[n.Addr()]
	w.note(attemptBegun, uint64(e.number))
	w.checkAttempt(c, a, e)
	at := &attempt{call: c, step: a, ctx: ctx, node: n, began: w.now, endpoint: e, paid: c.pays(a)}
	c.attempts = append(c.attempts, at)
	c.mesh.open[n]++
	w.checkStages(c, at)
	c.series.try(w.now)
	e.series.begin(w.now)
	r := &request{endpoint: e, attempt: at}
	at.request = r
	if a.Policy().Propagate == zerohop.On { // as the transports do
		r.deadline, r.patience, r.inbound.Criticality = c.ctx.at, a.Timeout(), a.Criticality()
		r.inbound.Attempt = a.Number
		if c.inbound != nil {
			r.inbound.Attempt += c.inbound.Attempt
		}
	}
	e.message(func() { e.receive(r) })
	return resilience.Verdict{}
}

// Release is told that nobody waits for the answer of an attempt.
func (c *call) Release(a *zerohop.Attempt) {
	for _, at := range c.attempts {
		if at.step == a {
			if !at.answered { // it took too long
				c.resend, c.failed.at, c.failed.after = false, c.world.now, 0
			}
			at.end()
		}
	}
}

// end is told that the attempt does not count as in flight any more when what is under way with its call is done.
func (a *attempt) end() {
	if a.left = true; !a.ended {
		a.ended = true
		a.call.mesh.open[a.node]--
		a.call.mesh.ledger(a.step).ended(a.paid)
		if e := a.endpoint; e.admission != nil && a.request.inside {
			e.message(func() { e.forgo(a.request) })
		}
	}
}

// arrive brings the answer of an attempt.
func (a *attempt) arrive(ans answer) {
	c := a.call
	if a.left {
		return
	}
	v := resilience.Verdict{Outcome: resilience.Failure, Retry: true, Unsent: ans.unsent}
	if a.step.Err = ans.err; ans.err == nil {
		after := ans.after
		if ans.noRetry {
			after = -1
		}
		a.step.Status = ans.status
		if v = ans.verdict; v == (resilience.Verdict{}) {
			v = resilience.HTTPStatus(ans.status, after)
		} else if ans.noRetry {
			v.After = -1
		}
	}
	c.world.note(attemptDone, uint64(ans.status))
	a.answered, c.resend = true, ans.unsent
	var out time.Duration // since when its endpoint is
	if a.node.Ejected() {
		out = c.mesh.ejected[a.node]
	}
	c.failed.at, c.failed.after = c.world.now, ans.after
	if v.Outcome == resilience.Success {
		l := c.mesh.ledger(a.step)
		l.good++
		if a.step.Backup() { // as long as the call is not over, it wins
			l.won++
		}
	}
	c.stepped.Answer(a.step, v)
	c.proceed()
	c.world.checkReturn(a, out)
}

// proceed sees to what comes next: the end, or when to wake the call.
func (c *call) proceed() {
	w := c.world
	if c.stepped.Over() {
		c.end()
		return
	}
	w.checkLoad(c)
	wake := c.stepped.Wake()
	if wake.IsZero() {
		return
	}
	if at := wake.Sub(w.start); c.alarm == 0 || at < c.alarm {
		c.alarm, c.tardy = at, c.tardy || c.mesh.late > 0
		c.mesh.timer(at, func() {
			if c.alarm == at {
				c.alarm = 0
				c.wake()
			}
		})
	}
}

// wake lets the call do what is due.
func (c *call) wake() {
	if c.stepped.Over() {
		return
	}
	c.world.checkWait(c)
	c.ctx.expire()
	c.stepped.Tick()
	c.proceed()
}

// end takes note of how the call went.
func (c *call) end() {
	if c.place < 0 {
		return
	}
	w := c.world
	last := len(w.calls) - 1
	moved := w.calls[last]
	w.calls[c.place], w.calls[last] = moved, nil
	moved.place, c.place = c.place, -1
	w.calls = w.calls[:last]

	a, err := c.stepped.Result()
	ok := false
	if a != nil {
		ok = a.Status == 200
		w.checkAnswer(c, a)
		a.End(a.Verdict().Outcome, nil)
	}
	for _, a := range c.attempts {
		a.end()
	}
	w.checkCall(c, ok, err)
	w.note(callDone, uint64(len(c.attempts)))
	if !w.ended && !c.left {
		c.series.finish(w.now, ok, w.now-c.began)
	}
	if c.done != nil {
		c.done(ok)
	}
}

// leave ends the call for its caller, who goes away.
func (c *call) leave() {
	if !c.stepped.Over() {
		c.left = true
		c.ctx.end(context.Canceled)
		c.wake()
	}
}

// executed is told that one of its attempts has come to an endpoint.
func (c *call) executed(a *attempt) {
	c.runs++
	if c.runs > 1 && !c.request.Idempotent && a.step.Policy().Idempotent != zerohop.On {
		c.world.violated("a call that must not be repeated is executed %d times", c.runs)
	}
}

var errOver = errors.New("sim: the simulation is over")

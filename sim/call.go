package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// mesh is that of one client, or of one endpoint that calls others.
type mesh struct {
	*zerohop.Mesh
	world     *world
	balancers []*loadbalance.Balancer // of the services that it calls
	stops     []func()
	ledgers   map[string]*ledger // by service
}

// newMesh makes a mesh that knows the endpoints of the services it is to call.
func (w *world) newMesh(name string, cfg zerohop.Config, services ...string) (*mesh, error) {
	cfg.Resolver, cfg.Rand = w, rand.New(w.stream("mesh "+name)).Uint64
	m := &mesh{world: w, ledgers: map[string]*ledger{}}
	var err error
	if m.Mesh, err = zerohop.New(cfg); err != nil {
		return nil, err
	}
	w.meshes = append(w.meshes, m)
	for _, s := range slices.Compact(services) {
		stop, err := m.Subscribe(s, func(e zerohop.Endpoints) {
			if !slices.Contains(m.balancers, e.Balancer) {
				m.balancers = append(m.balancers, e.Balancer)
			}
		})
		if err != nil {
			return nil, err
		}
		m.stops = append(m.stops, stop)
	}
	return m, nil
}

// call is a logical call, from the client's side.
type call struct {
	world    *world
	mesh     *mesh
	stepped  zerohop.Stepped
	request  zerohop.Request
	ctx      *deadline
	inbound  *zerohop.Inbound // what it is made for, nil if by a client
	began    time.Duration
	alarm    time.Duration // when it is to be woken, 0 if never
	place    int           // in world.calls
	attempts []*attempt
	runs     int  // how often it was executed
	resend   bool // the last answer was that the attempt was not sent
	series   *Series
	done     func(ok bool) // called at the end
}

// attempt is one of a call.
type attempt struct {
	call     *call
	step     *zerohop.Attempt
	endpoint *endpoint
	left     bool // nobody waits for the answer
}

// begin makes the call, which has time until end. 0 means for ever.
func (c *call) begin(service string, unsafe bool, end time.Duration) {
	w, parent := c.world, context.Background()
	if c.inbound != nil {
		parent = zerohop.WithInbound(parent, c.inbound)
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
	c.stepped.Begin(c.ctx, c.mesh.Mesh, &c.request, c)
	c.proceed()
}

// Attempt sends an attempt on its way.
func (c *call) Attempt(_ context.Context, a *zerohop.Attempt) resilience.Verdict {
	a.Open()
	w, e := c.world, c.world.byAddr[a.Node().Addr()]
	w.note(attemptBegun, uint64(e.number))
	w.checkAttempt(c, a)
	at := &attempt{call: c, step: a, endpoint: e}
	c.attempts = append(c.attempts, at)
	c.series.try(w.now)
	e.series.begin(w.now)
	r := &request{endpoint: e, attempt: at}
	if a.Policy().Propagate == zerohop.On { // as the transports do
		r.deadline = c.ctx.at
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
		at.left = at.left || at.step == a
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
		var after time.Duration
		if ans.noRetry {
			after = -1
		}
		a.step.Status = ans.status
		v = resilience.HTTPStatus(ans.status, after)
	}
	c.world.note(attemptDone, uint64(ans.status))
	c.resend = ans.unsent
	if v.Outcome == resilience.Success {
		c.mesh.ledger(a.step).good++
	}
	c.stepped.Answer(a.step, v)
	c.proceed()
}

// proceed sees to what comes next: the end, or when to wake the call.
func (c *call) proceed() {
	w := c.world
	if c.stepped.Over() {
		c.end()
		return
	}
	wake := c.stepped.Wake()
	if wake.IsZero() {
		return
	}
	if at := wake.Sub(w.start); c.alarm == 0 || at < c.alarm {
		c.alarm = at
		w.at(at, func() {
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
		a.End(a.Verdict().Outcome, nil)
	}
	for _, a := range c.attempts {
		a.left = true
	}
	w.checkCall(c, ok, err)
	w.note(callDone, uint64(len(c.attempts)))
	if !w.ended {
		c.series.finish(w.now, ok, w.now-c.began)
	}
	if c.done != nil {
		c.done(ok)
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

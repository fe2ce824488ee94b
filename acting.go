package zerohop

import (
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// actions is what a rule does with calls besides choosing where they go, with what it counts for that. The targets of a rule
// share it.
type actions struct {
	rule    *routing.Rule
	table   *routing.Table
	index   int           // of the rule in table
	faulty  bool          // it has a fault
	held    *atomic.Int64 // calls that it holds up
	mirrors []*mirror
}

// newActions returns those of a rule of g, nil if it has none. It finds services by their names in lower case. old are those of
// the same rule before, nil if there are none: what they hold up or have under way still counts.
func newActions(g *generation, rule int, services map[string]*service, old *actions) *actions {
	r := &g.rules[rule]
	a := &actions{rule: r, table: g.table, index: rule, held: &atomic.Int64{}}
	if old == nil {
		old = a
	}
	a.held = old.held
	a.faulty = r.Fault.Delay > 0 || r.Fault.Abort > 0 || r.Fault.ByHeader
	for i := range r.Mirrors {
		m := newMirror(services[strings.ToLower(r.Mirrors[i].Service)], r, &r.Mirrors[i])
		if i < len(old.mirrors) && strings.EqualFold(old.mirrors[i].Service, m.Service) {
			m.inFlight = old.mirrors[i].inFlight
		}
		a.mirrors = append(a.mirrors, m)
	}
	if !a.faulty && r.Response == nil && len(a.mirrors) == 0 && rewrites(r) == nil {
		return nil
	}
	return a
}

// act does what the route wants before the call is bounded by its policy and anything is sent: the blocking part of it is to
// wait for the end of a delay. It returns how the call ended if it does not go on.
func (c *Call) act(now time.Duration, r *Request) (time.Duration, error) {
	in := c.inject(r)
	if in.delay > 0 {
		c.boundByCaller(r)
		if err := c.pause(in.delay, func() { now = c.release(now) }); err != nil {
			return now, err
		}
	}
	return now, c.obey(in, r)
}

// inject returns what the fault of the route does to the call. If that is a delay, it is owed a call of release.
func (c *Call) inject(r *Request) injection {
	a := c.target.actions
	if a == nil || !a.faulty {
		return injection{}
	}
	in := inject(&a.rule.Fault, r.Header, c.mesh().cfg.Rand)
	if in.delay > 0 && a.held.Add(1) > int64(pick(a.rule.Fault.MaxActive, defaultMaxHeld)) {
		a.held.Add(-1)
		in.delay = 0
	}
	return in
}

// release says that the call is not held up any more, which it was since then. It returns the time.
func (c *Call) release(since time.Duration) time.Duration {
	c.target.actions.held.Add(-1)
	now := c.mesh().now()
	if c.details == nil {
		c.details = &details{}
	}
	c.details.delayed = now - since
	return now
}

// boundByCaller bounds the call before it is held up if its caller said so: a fault must not make him wait for longer. That
// of the policy begins after.
func (c *Call) boundByCaller(r *Request) {
	if c.said.options.Timeout > 0 || r.Timeout > 0 {
		c.bound(r)
	}
}

// obey tells the transport what the route wants, and ends the call if the route answers it.
func (c *Call) obey(in injection, r *Request) error {
	t := c.target
	if x, ok := c.exchange.(Directed); ok {
		if d := t.directions(r); d != nil {
			if err := x.Direct(d); err != nil {
				return c.fail(&Error{Reason: Unrewritable, Detail: resilience.Refused, Err: err}, resilience.Neutral)
			}
		}
	}
	if a := t.actions; in.status > 0 || a != nil && a.rule.Response != nil {
		return c.answer(routeError(a.rule, in, r.Protocol), r.Protocol)
	}
	return nil
}

// Directed is implemented by an Exchange that can do what routes want done with requests and answers: rewrite them, leave
// credentials behind, and copy requests (see Call.Copies).
type Directed interface {
	// Direct is called before the first attempt of a call whose route wants something. It runs in the goroutine of Call.Run.
	// With an error the call fails: it has the Reason Unrewritable, and no attempts.
	Direct(d *Directions) error
}

// Directions are what the route of a call wants its transport to do. They must not be changed, and are valid until the end
// of the call.
type Directions struct {
	// Rewrite is what the rule changes; nil if that is nothing.
	Rewrite *routing.Rewrite
	// Headers is what the backend changes in requests after that; nil if that is nothing.
	Headers *routing.Headers
	// Anonymous says that the call goes to another service than its caller named, which must not get what he proves himself
	// with: Authorization, Cookie and the headers for proxies. What Rewrite and Headers set goes all the same.
	Anonymous bool
	// Mirrored says that copies may be wanted: see Call.Copies.
	Mirrored bool

	actions *actions // nil if the rule has none
	match   int      // of the rule
}

// Path returns what the route makes of the path of the call, encoded as that: the same if the route leaves it. It is
// routing.ErrAmbiguousPath that it may have no single reading, before or after.
func (d *Directions) Path(path string) (string, error) {
	if a := d.actions; a != nil && a.rule.Rewrite.Path != (routing.PathRewrite{}) {
		return a.table.RewritePath(a.index, d.match, path)
	}
	return path, nil
}

// directions returns those of a call, nil if there are none.
func (t *target) directions(r *Request) *Directions {
	d := t.near
	if !strings.EqualFold(r.Service, t.service.key) {
		d = t.far
	}
	if d == nil || r.match <= 0 || d.Rewrite == nil || d.Rewrite.Path.Prefix == nil {
		return d
	}
	own := *d // of the match that the call fits, by its prefix
	own.match = r.match
	return &own
}

// newDirections returns those of calls that named the service of the target, or (far) another one.
func (t *target) newDirections(far bool) *Directions {
	d := &Directions{Headers: headersOf(t.backend), Anonymous: far && !t.trusted(""), actions: t.actions}
	if a := t.actions; a != nil {
		d.Rewrite, d.Mirrored = rewrites(a.rule), len(a.mirrors) > 0
	}
	if d.Rewrite == nil && d.Headers == nil && !d.Anonymous && !d.Mirrored {
		return nil
	}
	return d
}

// trusted reports whether a call that named the service has its credentials with it when it goes to the target.
func (t *target) trusted(named string) bool {
	return t.backend == nil || t.backend.Credentials || strings.EqualFold(named, t.service.key)
}

// rewrites returns what the rule changes, nil if that is nothing.
func rewrites(r *routing.Rule) *routing.Rewrite {
	w := &r.Rewrite
	if w.Path == (routing.PathRewrite{}) && w.Host == "" && !changes(&w.Query) && !changes(&w.Request) && !changes(&w.Response) {
		return nil
	}
	return w
}

func headersOf(b *routing.Backend) *routing.Headers {
	if b == nil || !changes(&b.Headers) {
		return nil
	}
	return &b.Headers
}

func changes(h *routing.Headers) bool { return len(h.Set)+len(h.Add)+len(h.Remove) > 0 }

// lostAnswer reports whether what a route answered a call with is a failure that a fallback may make good: faults are to
// look like those of the service, but an answer that is fixed is the one that is wanted.
func lostAnswer(err error) (lost, ok bool) {
	e, ok := errors.AsType[*RouteError](err)
	if !ok {
		return false, false
	}
	return e.Injected && (e.outcome == resilience.Failure || e.outcome == resilience.Overload), true
}

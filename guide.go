package zerohop

import (
	"slices"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// guide is what a call says about where it is to go. Most calls have none.
type guide struct {
	selector *selector
	wanted   metadata
	lanes    *laner // nil if there are none
	lane     string // of the call, empty if it is in none
	session  uint64 // key of the endpoint that the caller's session names, 0 if none
	node     uint64 // key of the endpoint that the call is bound to, 0 if none
	strict   bool   // it goes nowhere else
	sticky   bool   // the caller is to know his endpoint
}

// newPlainGuide returns that of calls that ask for nothing themselves, nil if they have none, or if each has one of its own.
func newPlainGuide(t *target) *guide {
	if t.lanes == nil && !t.selector.active() || len(t.selector.keys) > 0 {
		return nil
	}
	return &guide{selector: t.selector, wanted: t.selector.fixed, lanes: t.lanes}
}

// guide returns that of a call, nil if it has none.
func (t *target) guide(h routing.Values, o *CallOptions, lane string) *guide {
	sticky := t.policy.Sticky.on()
	if t.lanes == nil {
		lane = ""
	}
	if !sticky && len(t.selector.keys) == 0 && o.Node == "" && len(o.Select) == 0 && lane == "" {
		return t.plain
	}
	g := &guide{selector: t.selector, wanted: t.selector.of(h, o.Select), lanes: t.lanes, lane: lane, sticky: sticky}
	if sticky {
		g.session = t.policy.Sticky.session(h)
		g.node = g.session
	}
	if o.Node != "" {
		g.node = loadbalance.NodeKey(o.Node)
	}
	g.strict = g.node != 0 && pick(o.Strict, t.policy.Sticky.Strict) == On
	return g
}

// guideBy keeps the guide of a call, which few have.
func (c *Call) guideBy(g *guide) {
	if g == c.target.plain {
		return
	}
	if c.details == nil {
		c.details = &details{}
	}
	c.details.guide = g
}

// guide returns that of the call, nil if it has none.
func (c *Call) guide() *guide {
	if c.details == nil || c.details.guide == nil {
		return c.target.plain
	}
	return c.details.guide
}

// stays reports whether all attempts of the call go to the same endpoint.
func (g *guide) stays() bool { return g != nil && g.strict }

// choose returns the part of set that an attempt may go to; see selector.choose. in says what it has tried, and left that the
// lane was given up.
func (g *guide) choose(in *loadbalance.Info, left bool, set, known *loadbalance.Set) (*loadbalance.Set, error) {
	switch {
	case g == nil:
		return set, nil
	case g.lanes != nil:
		return g.lanes.choose(g, in, left, set, known)
	}
	return g.selector.choose(g.wanted, set, known)
}

// Wanted returns those of all endpoints of the service that the call may go to by their metadata, for transports that choose
// endpoints late and cannot reach all of them at any time: known itself if it does not matter.
func (a *Attempt) Wanted(known *loadbalance.Set) *loadbalance.Set {
	c := a.call
	in := loadbalance.Info{Now: c.mesh().at(c.mesh().now()), Other: a.Backup()}
	if a.cause != resilience.First || a.Node() != nil {
		in.Avoid, in.Sound = c.avoid()
	}
	if set, err := c.guide().choose(&in, a.rarity().astray, known, known); err == nil {
		return set
	}
	return &nothing
}

// Bound returns the endpoint that the attempt goes to rather than to another one, for the same transports, and whether it
// goes nowhere else. There is none if the call is not bound to one, was refused by it before, or if it is not in the
// set.
func (a *Attempt) Bound(set *loadbalance.Set) (n *loadbalance.Node, strict bool) {
	g := a.call.guide()
	if g == nil || g.node == 0 {
		return nil, false
	}
	n = set.Find(g.node)
	if n != nil && !g.strict && (a.cause != 0 || a.Node() != nil) {
		if tried, _ := a.call.avoid(); slices.Contains(tried, n) || n == a.Node() {
			return nil, false
		}
	}
	return n, g.strict
}

// Age returns how long ago the attempt began, or got its endpoint.
func (a *Attempt) Age() time.Duration { return a.call.mesh().now() - a.start }

// elsewhere reports whether an endpoint is ready that the call has not tried, so that the pause that another one asked
// for need not be kept. Where the transport chooses, it has to have said which are ready.
func (a *Attempt) elsewhere(now time.Duration) bool {
	c := a.call
	if c.guide().stays() {
		return false
	}
	r := a.rarity()
	ready, known := r.ready, r.known
	if !c.late {
		ready = c.target.service.balancer.Set()
		known = ready
	}
	if ready == nil {
		return false
	}
	in := loadbalance.Info{Now: c.mesh().at(now)}
	in.Avoid, _ = c.avoid()
	set, err := c.guide().choose(&in, r.astray, ready, known)
	return err == nil && set.Sound(in)
}

// nowhere reports whether there is no endpoint that the call has not tried, or perhaps none at all where the transport has
// its own.
func (c *Call) nowhere() bool {
	if c.own || c.guide().stays() {
		return true
	}
	if c.late {
		return false
	}
	tried, _ := c.avoid()
	all := c.target.service.balancer.Set()
	set, err := c.guide().choose(&loadbalance.Info{Now: c.mesh().at(c.mesh().now()), Avoid: tried}, false, all, all)
	return err != nil || !slices.ContainsFunc(set.Nodes(), func(n *loadbalance.Node) bool { return !slices.Contains(tried, n) })
}

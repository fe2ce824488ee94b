package zerohop

import (
	"context"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// details are what is told of a call, and what few calls need.
type details struct {
	start                  time.Time // as the user's clock showed it; zero if nobody asks
	protocol, host, method string
	instead, lane          string
	mirror                 bool               // the call is a copy
	delayed                time.Duration      // by a fault
	outer                  context.Context    // of the call without the bound of its policy, that CallDone gets; nil if there is none
	cancel                 context.CancelFunc // of that bound
	ticket                 *resilience.Ticket // nil if calls in flight are not limited
	guide                  *guide             // nil if the call may go to any endpoint
	shadow                 *shadowCall        // nil if nobody judges it by another spec
	refusals               []StageRefusal     // of the call, not of its attempts
}

// Details are what hooks are told of a call. A transport may have room for it beside the Call, which saves an allocation; see
// Call.Room. The zero value is ready.
type Details struct{ kept details }

// Room gives a call room for its details, if hooks are told of calls (Mesh.Observed) or somebody else asks. It is to be called before
// Run, and d is the call's as long as that is.
func (c *Call) Room(d *Details) { c.details = &d.kept }

// begin notes when the call begins, and the details that somebody will ask for.
func (c *Call) begin(r *Request, shadowed bool) time.Duration {
	m := c.mesh()
	room := c.details
	if told := m.observed || c.said.report != nil || shadowed || r.Instead != ""; !told && (c.latency != nil || !c.named) {
		c.start, c.details = m.now(), nil
	} else {
		now := time.Now()
		c.start = now.Sub(m.base)
		if room == nil {
			room = &details{}
		}
		c.details = room
		*room = details{start: now, protocol: r.Protocol, host: r.Service, method: pick(r.Operation, r.Method), instead: r.Instead, mirror: r.Copy != nil}
	}
	return c.start
}

// info returns what hooks and reports tell of the call. It has details if there are any.
func (c *Call) info() CallInfo {
	d := c.details
	return CallInfo{
		Service: c.target.service.name, Host: d.host, Route: c.target.route, Rule: c.target.at.rule, Backend: c.target.at.backend,
		Instead: d.instead, Lane: d.lane, Mirror: d.mirror, Protocol: d.protocol, Method: d.method, Criticality: c.criticality(), Start: d.start,
	}
}

// same reports whether two contexts are known to be one. They may be of types that cannot be compared.
func same(a, b context.Context) (yes bool) {
	defer func() { _ = recover() }()
	return a == b
}

// Propagates reports whether there is a hook that sets headers of attempts.
func (c *Call) Propagates() bool { return c.mesh().cfg.Hooks.Propagate != nil }

// Propagate calls the hook that sets headers of an attempt, given the context of the attempt.
func (c *Call) Propagate(ctx context.Context, set func(key, value string)) {
	if h := c.mesh().cfg.Hooks.Propagate; h != nil {
		h(ctx, set)
	}
}

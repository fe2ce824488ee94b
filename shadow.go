package zerohop

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// Shadow judges the calls of a mesh by another Spec than the one they are made under, and changes nothing about them: it tells
// what that Spec would have done. It is made by Mesh.Shadow. All methods are safe for concurrent use.
//
// Each call is routed by the other Spec too, with the same random word, so that a split differs where its shares do. If it would
// have gone to the same endpoints, it is made once more on paper when it is over: its attempts come out as they did, and the
// stages of the other Spec (rate limit, limit, throttle, breakers, ejection, budget, retries, backups, timeouts), with state of
// their own that only knows these calls, decide what would have followed. What attempts that were not made would have led to,
// nobody knows: they are counted. Faults, mirrors, rewrites, balancing and what endpoints refuse by EndpointLimit are not judged.
//
// While there is a Shadow, calls take some microseconds more, under a lock that all of them share.
type Shadow struct {
	mesh *Mesh
	made *succession
	gen  *generation

	mu     sync.Mutex // guards what follows, and the order of what is judged
	over   bool
	begun  time.Duration
	ended  time.Duration
	calls  uint64
	moves  map[ShadowMove]uint64 // without their Calls
	others map[string]*service   // that the spec does not name
	tried  map[*service]*shadowed
}

const (
	// maxShadowMoves bounds the pairs of places that are told apart, of which there may be as many as routes times routes.
	maxShadowMoves = 1000
	// maxShadowed bounds the services that only calls name.
	maxShadowed = 1000
)

// shadowed is a service as a Shadow judges its calls.
type shadowed struct {
	ShadowService

	set *loadbalance.Set // that the endpoints were taken from
}

// Shadow begins to judge calls by another Spec. It takes the place of the Shadow before, if there is one, which is stopped. The
// error names the field of every mistake in the Spec, or is ErrClosed.
func (m *Mesh) Shadow(spec Spec) (*Shadow, error) {
	if m.ctx.Err() != nil {
		return nil, ErrClosed
	}
	err := spec.bounded()
	if err == nil {
		err = errors.Join(spec.validate(m.cfg.Balancers), spec.validateCheckers(m.cfg.Checkers, true))
	}
	var table *routing.Table
	if err == nil {
		spec = spec.clone()
		table, err = spec.table()
	}
	if err != nil {
		return nil, fmt.Errorf("zerohop: invalid shadow: %w", err)
	}
	// Its services are not enacted: nothing looks for their endpoints.
	made := m.succeed(nil, spec, table)
	s := &Shadow{
		mesh: m, made: made, gen: made.to, begun: m.now(),
		moves: map[ShadowMove]uint64{}, others: map[string]*service{}, tried: map[*service]*shadowed{},
	}
	if old := m.shadow.Swap(s); old != nil {
		old.stop()
	}
	return s, nil
}

// Stop ends the judging. What was found so far stays. It is idempotent.
func (s *Shadow) Stop() {
	s.mesh.shadow.CompareAndSwap(s, nil)
	s.stop()
}

func (s *Shadow) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.over, s.ended = true, s.mesh.now()
	for _, x := range s.gen.known() {
		x.stop(nil)
	}
	for _, x := range s.others {
		x.stop(nil)
	}
}

// shadowCall is a call as a Shadow judges it.
type shadowCall struct {
	shadow *Shadow
	target *target
	limits resilience.CallConfig
	ticket *resilience.Ticket // nil if calls in flight are not limited
	moved  bool               // it would have gone elsewhere
	stage  Stage              // that would have refused it; empty if none
}

// begin judges where a call would have gone and whether it would have been let in.
func (s *Shadow) begin(ctx context.Context, c *Call, r *Request, now time.Duration) *shadowCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return nil
	}
	t := s.target(&r.Request, r.draw)
	if t == nil {
		return nil
	}
	s.calls++
	x := &shadowCall{shadow: s, target: t}
	move := ShadowMove{From: placeOf(c.target), To: placeOf(t)}
	if x.moved = move.elsewhere(); x.moved {
		if _, known := s.moves[move]; !known && len(s.moves) >= maxShadowMoves {
			move = ShadowMove{}
		}
		s.moves[move]++
	}
	found := s.of(t.service)
	found.Calls++
	if t.rule != nil && t.rule.Response != nil { // nothing comes after that
		return x
	}
	if t.rate != nil {
		if _, ok := t.rate.Reserve(now, max(t.policy.RateLimit.MaxWait, 0)); !ok {
			x.refuse(found, StageRateLimit)
			return x
		}
	}
	o := &c.said.options
	x.limits = t.limits
	x.limits.Criticality = c.said.criticality(&t.policy)
	if in := c.said.inbound; in != nil {
		x.limits.Nested = in.Attempt > 0
	}
	if d, ok := ctx.Deadline(); ok {
		x.limits.Deadline = max(later(now, time.Until(d)), 1)
	}
	d := pick(max(o.Timeout, 0), t.policy.Timeout)
	if r.Timeout > 0 && (d == 0 || r.Timeout < d) {
		d = r.Timeout
	}
	if d > 0 && (x.limits.Deadline == 0 || later(now, d) < x.limits.Deadline) {
		x.limits.Deadline = later(now, d)
	}
	t.limit(&x.limits, t.latencyOf(r.Operation), now, r, o)
	if x.limits.Criticality < resilience.Critical {
		x.limits.Backup = 0
	}
	if t.flight != nil {
		x.ticket = &resilience.Ticket{Criticality: x.limits.Criticality, Deadline: x.limits.Deadline}
		switch a := t.flight.Enter(now, x.ticket); {
		case a == resilience.Queued:
			t.flight.Cancel(now, x.ticket)
			x.ticket = nil
			found.Queued++
		case a.Refused():
			x.ticket = nil
			x.refuse(found, StageLimit)
		}
	}
	return x
}

// refuse notes that the stage would have refused the call or one of its attempts.
func (x *shadowCall) refuse(found *shadowed, stage Stage) {
	x.stage = stage
	found.Refused[stage]++
}

// target returns where the call would go, nil if that is not known. s.mu is held.
func (s *Shadow) target(r *routing.Request, draw uint64) *target {
	folded := *r
	folded.Service = strings.ToLower(r.Service)
	d := routing.Decision{Rule: -1, Backend: -1}
	if s.gen.table != nil {
		if draw == 0 {
			draw = s.mesh.cfg.Rand()
		}
		if s.gen.table.Timed() {
			folded.Now = time.Now()
		}
		d = s.gen.table.Route(&folded, draw)
	}
	if d.Backend >= 0 {
		return s.gen.backends[d.Rule][d.Backend]
	}
	x := s.gen.known()[folded.Service]
	if x == nil {
		if x = s.others[folded.Service]; x == nil {
			if len(s.others) >= maxShadowed {
				return nil
			}
			p := s.gen.spec.complete(Policy{})
			x = s.made.service(nil, folded.Service, p, false)
			s.others[folded.Service] = x
		}
	}
	return x.target(s.gen, d.Rule)
}

// of returns what was found of a service. s.mu is held.
func (s *Shadow) of(x *service) *shadowed {
	found := s.tried[x]
	if found == nil {
		found = &shadowed{ShadowService: ShadowService{Service: x.name, Refused: map[Stage]uint64{}}}
		s.tried[x] = found
	}
	return found
}

// follow takes over the endpoints of the service of a call. s.mu is held.
func (found *shadowed) follow(x, live *service) {
	set := live.balancer.Set()
	if set == found.set {
		return
	}
	found.set = set
	eps := make([]discovery.Endpoint, len(set.Nodes()))
	for i, n := range set.Nodes() {
		eps[i] = n.Endpoint()
	}
	x.balancer.Update(eps)
}

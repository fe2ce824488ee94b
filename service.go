package zerohop

import (
	"sync/atomic"

	"github.com/zerohop/zerohop/resilience"
)

// service is a service as one generation of the spec has it: its policy, and what all calls of it share. What did not change since
// the generation before is shared with that.
type service struct {
	*upstream

	generation uint64

	named    bool // in the spec, so never forgotten
	retired  bool // it was in the spec
	host     bool // hosts of that name mean the service
	keyed    bool // the balancer may look at keys
	policy   Policy
	budget   *resilience.Budget
	throttle *throttles                          // nil if there are none
	breaker  *atomic.Pointer[resilience.Breaker] // to nil if there is none
	direct   *target
	byRule   atomic.Pointer[[]atomic.Pointer[target]] // for the rules without backends; nil until one is needed
}

// service returns the service as x.to has it, given how x.from does, which may be nil.
func (x *succession) service(old *service, name string, p Policy, named bool) *service {
	m := x.mesh
	if old != nil && old.name != name { // which is what the resolver is asked for
		old = nil
	}
	s := &service{
		generation: x.to.number, retired: !named && old != nil && (old.named || old.retired),
		named: named, host: named || isLabel(name), policy: p,
		keyed: p.keyed(m),
	}
	path := "services." + name
	if old == nil {
		s.upstream = newUpstream(m, name, &p)
		x.fresh = append(x.fresh, s.upstream)
	} else {
		s.upstream = old.upstream
		if s.renews(old, path, x.reset) {
			x.renewed = append(x.renewed, s)
		}
	}
	s.inherit(old, path, x.reset)
	s.direct = newTarget(s, nil, nil, p)
	if old != nil {
		s.direct.inherit(old.direct, old.direct, path, x.reset)
	} else {
		s.direct.inherit(nil, nil, path, x.reset)
	}
	return s
}

// inherit gives the service what all its calls share: that of old, which may be nil, where its policy is the same.
func (s *service) inherit(old *service, path string, reset func(path, what string)) {
	m, p := s.mesh, &s.policy
	if old == nil {
		old = &service{breaker: &atomic.Pointer[resilience.Breaker]{}}
	}
	switch {
	case p.Budget.Mode != On:
	case old.budget == nil:
		s.budget = resilience.NewBudget(p.Budget.config())
	case old.policy.Budget == p.Budget:
		s.budget = old.budget
	default:
		s.budget = old.budget.Successor(p.Budget.config())
	}
	switch {
	case !p.Throttle.Mode.decides():
	case old.throttle != nil && old.policy.Throttle.config() == p.Throttle.config():
		s.throttle = old.throttle
	default:
		if s.throttle = newThrottles(&p.Throttle); old.throttle != nil {
			reset(path+".throttle", "forgets what was refused")
		}
	}
	if s.breaker = old.breaker; old.policy.ServiceBreaker != p.ServiceBreaker {
		s.breaker = &atomic.Pointer[resilience.Breaker]{}
		s.breaker.Store(newServiceBreaker(m, p))
		if was := old.breaker.Load(); was != nil {
			s.forceLike(was, old.policy.ServiceBreaker.Mode)
			reset(path+".serviceBreaker", "forgets what was counted")
		}
		s.watchBreaker(s.breaker.Load())
	}
}

// forceLike has the breaker of the service go on from the state of the one before, which had the mode.
func (s *service) forceLike(was *resilience.Breaker, mode Switch) {
	now := s.mesh.now()
	state := was.State(now)
	forced := state == resilience.BreakerForcedOpen || state == resilience.BreakerDisabled || state == resilience.BreakerMetricsOnly && mode != Observe
	b := s.breaker.Load()
	switch {
	case forced && b == nil:
		b = s.newBreaker()
		s.breaker.Store(b)
	case forced:
	case b == nil || s.policy.ServiceBreaker.Mode == Observe || state != resilience.BreakerOpen && state != resilience.BreakerHalfOpen:
		return
	}
	_ = b.Force(now, state) // there is such a state: a breaker was in it
}

// target returns the target for calls that came under a rule of g without backends, -1 if under none.
func (s *service) target(g *generation, rule int) *target {
	if rule < 0 {
		return s.direct
	}
	list := s.byRule.Load()
	if list == nil {
		fresh := make([]atomic.Pointer[target], len(g.rules))
		s.byRule.CompareAndSwap(nil, &fresh)
		list = s.byRule.Load()
	}
	slot := &(*list)[rule]
	if t := slot.Load(); t != nil {
		return t
	}
	t := g.target(s, rule, -1)
	t.inherit(nil, nil, "", nil)
	slot.CompareAndSwap(nil, t)
	return slot.Load()
}

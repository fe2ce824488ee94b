package zerohop

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// target is a service as reached under one policy: what a route leads to.
type target struct {
	*learned

	service *service
	route   string // name of the rule
	at      position
	rule    *routing.Rule    // nil if the call came under none
	backend *routing.Backend // that the rule chose; nil if it has none
	policy  Policy
	limits  resilience.CallConfig // what all calls have in common

	actions *actions // nil if the rule has none
	copies  bool     // of calls are what goes there
	// near and far are what transports are to do with calls that named the service and with those that named another one; nil
	// if that is nothing.
	near, far *Directions

	explain explaining
	sample  uint64 // of 1<<53 calls so many are explained, whatever becomes of them

	keyed     bool                   // the algorithm may look at keys
	algorithm *loadbalance.Algorithm // nil if it is that of the service

	selector *selector
	lanes    *laner                              // nil if there are none
	plain    *guide                              // of calls that ask for nothing themselves; nil if those may go to any endpoint
	rate     *resilience.RateLimit               // nil if there is none
	flight   *resilience.Limit                   // of calls in flight; nil if there is none
	budget   *resilience.Budget                  // nil if there is none
	shared   struct{ rate, flight, budget bool } // with the service
}

// position is where a rule and a backend are in the spec, counted from 0; -1 if there is none. A spec has no more than 1,000 rules.
type position struct{ rule, backend int16 }

// learned is what calls to a target tell about those to come. It outlives the target, if the next generation has the same.
type learned struct {
	tail    float64            // quantile that is learned
	latency resilience.Latency // of successful attempts of operations without a latency of their own

	operations atomic.Pointer[map[string]*resilience.Latency]
	mu         sync.Mutex // guards writes of operations
}

// maxOperations bounds the operations of a target that have a latency of their own, at 1.4 KB each.
const maxOperations = 100

// latencyOf returns where the latency of an operation is learned, nil if nothing is known of it yet.
func (t *learned) latencyOf(operation string) *resilience.Latency {
	if operation == "" {
		return &t.latency
	}
	known := t.operations.Load()
	if known == nil {
		return nil
	}
	if l := (*known)[operation]; l != nil {
		return l
	}
	if len(*known) >= maxOperations {
		return &t.latency
	}
	return nil
}

// learn returns where the latency of an operation is learned from now on.
func (t *learned) learn(operation string) *resilience.Latency {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.latencyOf(operation); l != nil {
		return l
	}
	next := map[string]*resilience.Latency{}
	if known := t.operations.Load(); known != nil {
		next = maps.Clone(*known)
	}
	l := &resilience.Latency{Tail: t.tail}
	next[operation] = l
	t.operations.Store(&next)
	return l
}

// newTarget returns the target for calls to the service, under a rule and to a backend of it if these are not nil. It is to inherit.
func newTarget(s *service, r *routing.Rule, b *routing.Backend, p Policy) *target {
	t := &target{
		service: s, at: position{-1, -1}, rule: r, backend: b, policy: p, keyed: p.keyed(s.mesh), selector: newSelector(&p.Select), lanes: newLaner(&p.Lane),
		limits: resilience.CallConfig{
			Attempts: p.Retry.Attempts,
			NoRetry:  p.Retry.Mode == Off,
			Backoff:  resilience.BackoffConfig{Base: p.Retry.Base, Max: p.Retry.Max},
		},
		budget: s.budget,
	}
	t.shared.budget = true
	t.explain, t.sample = p.Explain.level()
	if r != nil {
		t.route = r.Name
	}
	t.plain = newPlainGuide(t)
	return t
}

func newLearned(tail float64) *learned {
	return &learned{tail: tail, latency: resilience.Latency{Tail: tail}}
}

// target returns a new target for calls to the service that come under a rule, and go to a backend of it, -1 if it has none. It is
// to inherit.
func (g *generation) target(s *service, rule, backend int) *target {
	r := &g.rules[rule]
	own := g.spec.Policies[r.Policy]
	p := own.over(s.policy)
	var b *routing.Backend
	if backend >= 0 {
		if b = &r.Backends[backend]; len(b.Select) > 0 {
			p.Select.Mode, p.Select.Match, p.Select.Headers = On, b.Select, nil
		}
	}
	t := newTarget(s, r, b, p)
	t.at = position{int16(rule), int16(backend)}
	t.actions = g.actions[rule]
	t.near, t.far = t.newDirections(false), t.newDirections(true)
	if p.picking() != s.policy.picking() {
		t.algorithm = &loadbalance.Algorithm{Builder: p.builder(s.mesh.cfg.Balancers)}
	}
	if own.Budget != (Budget{}) {
		t.budget, t.shared.budget = nil, false
	}
	if own.RateLimit == (RateLimit{}) {
		t.rate, t.shared.rate = s.direct.rate, true
	}
	if own.Limit == (Limit{}) {
		t.flight, t.shared.flight = s.direct.flight, true
	}
	return t
}

// inherit gives the target what it learns and the limits that it does not share with the service: those of others before it where
// these fit. The first one is the same target, the second one of the same rule and service. Both may be nil.
func (t *target) inherit(same, like *target, path string, reset func(path, what string)) {
	tail := t.policy.Backup.Quantile
	if same != nil && same.tail == tail {
		t.learned = same.learned
	} else {
		t.learned = newLearned(tail)
		if same != nil {
			reset(path+".backup.quantile", "latencies are learned anew")
		}
	}
	p := &t.policy
	if !t.shared.budget && p.Budget.Mode == On {
		switch {
		case like == nil || like.shared.budget || like.budget == nil:
			t.budget = resilience.NewBudget(p.Budget.config())
		case like.policy.Budget == p.Budget:
			t.budget = like.budget
		default:
			t.budget = like.budget.Successor(p.Budget.config())
		}
	}
	t.limits.Budget = t.budget
	if t.algorithm != nil && same != nil && same.algorithm != nil && same.policy.picking() == p.picking() {
		t.algorithm = same.algorithm
	}
	if !t.shared.rate {
		t.rate = newRateLimit(&p.RateLimit)
		if like != nil && like.rate != nil && t.rate != nil && !like.shared.rate {
			if like.policy.RateLimit.config() == p.RateLimit.config() {
				t.rate = like.rate
			} else {
				reset(path+".rateLimit", "begins with a full burst")
			}
		}
	}
	if !t.shared.flight {
		t.flight = newLimit(&p.Limit, t.service.mesh.cfg.Rand)
		if like != nil && like.flight != nil && t.flight != nil && !like.shared.flight {
			if like.policy.Limit.config() == p.Limit.config() {
				t.flight = like.flight
			} else {
				reset(path+".limit", "does not count what is in flight")
			}
		}
	}
}

// unlearnedBackup is how long an attempt runs before a backup joins it while the latency of the route is not
// known yet. Few calls see it: a score of answers is enough to learn from.
const unlearnedBackup = time.Second

// limit sets what a call may do, but for its deadline, which is known. l is where its latency is learned, nil if nothing is known.
func (t *target) limit(c *resilience.CallConfig, l *resilience.Latency, now time.Duration, r *Request, o *CallOptions) {
	if o.Attempts > 0 {
		c.Attempts = o.Attempts
	}
	if r.Attempts > 0 {
		c.Attempts = min(c.Attempts, r.Attempts)
	}
	switch pick(o.Idempotent, t.policy.Idempotent) {
	case On:
		c.Idempotent = true
	case Inherit:
		c.Idempotent = r.Idempotent
	}
	var (
		p50, tail time.Duration
		learned   bool
	)
	if l != nil {
		p50, tail, learned = l.Quantiles()
	}
	c.MinRemaining = p50 / 2
	if pick(o.Backup, t.policy.Backup.Mode) == On && c.Idempotent && c.Attempts > 1 && !r.Stream {
		c.Backup = unlearnedBackup
		if learned {
			c.Backup = time.Duration(t.policy.Backup.Factor * float64(tail))
		}
		if c.Deadline > 0 { // one that comes after the deadline saves nobody
			c.Backup = min(c.Backup, (c.Deadline-now)/2)
		}
		c.Backup = max(c.Backup, t.policy.Backup.Min)
	}
}

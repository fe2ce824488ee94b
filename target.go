package zerohop

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// target is a service as reached under one policy: what a route leads to.
type target struct {
	service *service
	route   string
	policy  Policy
	limits  resilience.CallConfig // what all calls have in common
	latency resilience.Latency    // of successful attempts of operations without a latency of their own

	selector *selector
	rate     *resilience.RateLimit // nil if there is none
	flight   *resilience.Limit     // of calls in flight; nil if there is none

	operations atomic.Pointer[map[string]*resilience.Latency]
	mu         sync.Mutex // guards writes of operations
}

// maxOperations bounds the operations of a target that have a latency of their own, at 1.4 KB each.
const maxOperations = 100

// latencyOf returns where the latency of an operation is learned, nil if nothing is known of it yet.
func (t *target) latencyOf(operation string) *resilience.Latency {
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
func (t *target) learn(operation string) *resilience.Latency {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.latencyOf(operation); l != nil {
		return l
	}
	next := map[string]*resilience.Latency{}
	if known := t.operations.Load(); known != nil {
		next = maps.Clone(*known)
	}
	l := &resilience.Latency{Tail: t.policy.Backup.Quantile}
	next[operation] = l
	t.operations.Store(&next)
	return l
}

func newTarget(s *service, route string, p Policy) *target {
	return &target{service: s, route: route, policy: p, selector: newSelector(&p.Select), rate: newRateLimit(&p.RateLimit), flight: newLimit(&p.Limit, s.mesh.cfg.Rand), latency: resilience.Latency{Tail: p.Backup.Quantile}, limits: resilience.CallConfig{
		Attempts: p.Retry.Attempts,
		NoRetry:  p.Retry.Mode == Off,
		Backoff:  resilience.BackoffConfig{Base: p.Retry.Base, Max: p.Retry.Max},
		Budget:   s.budget,
	}}
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

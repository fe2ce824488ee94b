package zerohop

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// service is what the mesh knows of one service: its endpoints, its budget and the policy of its calls.
type service struct {
	mesh     *Mesh
	name     string
	key      string // name in lower case
	named    bool   // in the spec, so never forgotten
	host     bool   // hosts of that name mean the service
	keyed    bool   // the balancer may look at keys
	policy   Policy
	balancer *loadbalance.Balancer
	budget   *resilience.Budget
	checks   *checks                            // nil if there are none
	throttle *throttles                         // nil if there are none
	breaker  atomic.Pointer[resilience.Breaker] // nil if there is none
	direct   *target
	byRule   []atomic.Pointer[target]
	ctx      context.Context // of the watch
	stop     context.CancelFunc
	watching sync.Once
	used     atomic.Int64 // when a call was last made, in seconds of the mesh; kept if dated
	dated    bool
	serving  atomic.Bool // there are endpoints
	probing  atomic.Pointer[probing]
	zoning   zoning
	latest   []discovery.Endpoint // the set that update has just taken; of the watch, and only if there are snapshots

	mu      sync.Mutex // guards what follows
	begun   time.Time  // when it was first asked
	known   bool       // it has answered
	err     error      // why it does not answer now
	last    discovery.Event
	renewed time.Time     // when there was another set
	changed chan struct{} // closed at the next change of the above
	subs    map[*subscription]struct{}
}

func newService(m *Mesh, name string, named bool) *service {
	s := &service{
		mesh: m, name: name, key: strings.ToLower(name), named: named, host: named || isLabel(name),
		policy:  m.cfg.Spec.complete(m.cfg.Spec.Services[name]),
		byRule:  make([]atomic.Pointer[target], len(m.cfg.Spec.Routes)),
		changed: make(chan struct{}),
		subs:    map[*subscription]struct{}{},
	}
	s.keyed = hashes(s.policy.Balance) || m.cfg.Balancers[s.policy.Balance] != nil
	s.used.Store(seconds(m.now())) // or it would seem to be the one idle longest
	s.ctx, s.stop = context.WithCancel(m.ctx)
	lb := loadbalance.Config{
		Builder: s.policy.builder(m.cfg.Balancers), Rand: m.cfg.Rand,
		Panic: s.policy.Panic, OverProvisioning: s.policy.OverProvisioning,
		Subset: loadbalance.Subset{Size: s.policy.Subset, Client: m.cfg.Instance, Clients: m.cfg.Peers, Index: m.cfg.PeerIndex},
	}
	lb.Limit = s.policy.EndpointLimit.balancer()
	if s.policy.Breaker.Mode == On {
		c := s.policy.Breaker.config(&s.policy)
		lb.Breaker = &c
	}
	if s.policy.Outlier.Mode == On {
		c := s.policy.Outlier.config()
		lb.Outlier = &c
	}
	if s.policy.SlowStart.Mode == On {
		c := s.policy.SlowStart.config()
		lb.SlowStart = &c
	}
	if s.policy.Locality.Mode == On {
		at := m.site.Load()
		lb.Locality = s.policy.Locality.config(at.zone, at.asked)
		s.zoning.late = at.asked
	}
	lb.Unproven = s.policy.HealthCheck.Mode == On && s.policy.HealthCheck.Unproven == On
	s.balancer = loadbalance.New(lb)
	s.checks = newChecks(s)
	s.dated = !named || s.checks != nil
	if s.policy.Budget.Mode == On {
		s.budget = resilience.NewBudget(s.policy.Budget.config())
	}
	s.throttle = newThrottles(&s.policy.Throttle)
	s.breaker.Store(newServiceBreaker(m, &s.policy))
	s.direct = newTarget(s, "", s.policy)
	return s
}

// target returns the target for calls that came under a rule, -1 if none.
func (s *service) target(rule int) *target {
	if rule < 0 {
		return s.direct
	}
	if t := s.byRule[rule].Load(); t != nil {
		return t
	}
	spec := &s.mesh.cfg.Spec
	r := s.mesh.routes.Rule(rule)
	own := spec.Policies[r.Policy]
	t := newTarget(s, r.Name, own.over(s.policy))
	if own.RateLimit == (RateLimit{}) {
		t.rate = s.direct.rate
	}
	if own.Limit == (Limit{}) {
		t.flight = s.direct.flight
	}
	s.byRule[rule].CompareAndSwap(nil, t)
	return s.byRule[rule].Load()
}

// start begins to watch a service that was not named in the spec, when endpoints of it are first asked for.
func (s *service) start() {
	s.watching.Do(func() {
		s.begin()
		s.mesh.task(s.watch)
	})
}

// begin notes that the service is asked for.
func (s *service) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun = time.Now()
}

// watch keeps the balancer up to date until the mesh is closed or the service is forgotten.
func (s *service) watch() {
	if s.checks != nil {
		var checking sync.WaitGroup
		checking.Go(func() { s.checks.Run(s.ctx) })
		defer checking.Wait()
	}
	cfg := &s.mesh.cfg
	opts := discovery.RunOptions{
		Rand: cfg.Rand, EmptyGrace: cfg.Discovery.EmptyGrace, MaxRemoval: cfg.Discovery.MaxRemoval,
		Addresses: cfg.Addresses, Snapshot: cfg.Snapshot, Observe: s.observe,
	}
	_ = discovery.Run(s.ctx, cfg.Resolver, s.name, opts, s.update) // it ends with the context only
	s.balancer.Update(nil)
	if s.mesh.ctx.Err() != nil { // else nobody has subscribed
		s.change(func() { s.err = ErrClosed })
	}
}

func (s *service) change(set func()) {
	s.mu.Lock()
	set()
	close(s.changed)
	s.changed = make(chan struct{})
	subs := slices.Collect(maps.Keys(s.subs))
	s.mu.Unlock()
	for _, sub := range subs {
		sub.tell(s)
	}
}

// busy reports whether somebody would miss the service.
func (s *service) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.subs) > 0
}

// seconds counts the full ones since the base of the mesh.
func seconds(now time.Duration) int64 { return int64(now / time.Second) }

// touch notes that the service is in use. A second is exact enough to find the one idle longest, and the
// word is written once a second only.
func (s *service) touch(now time.Duration) {
	if !s.dated {
		return
	}
	if sec := seconds(now); s.used.Load() != sec {
		if last := s.used.Swap(sec); s.checks != nil {
			s.checks.used(sec, last)
		}
	}
}

var (
	errStartTimeout = errors.New("the source has not answered")
	// errNoInstance is also what comes of a wrong name, which most sources do not tell from a service without instances.
	errNoInstance = fmt.Errorf("the source lists no instance by this name (%w)", loadbalance.ErrNoEndpoints)
	errForgotten  = fmt.Errorf("the service gave way to others: more than %d are in use", maxDynamicServices)
)

// wait blocks until the service has endpoints, or reports why it has none: at once if the source answered or
// failed, or if it has done neither for long, unless the caller is patient.
func (s *service) wait(ctx context.Context, patient bool) error {
	if s.serving.Load() {
		return nil
	}
	s.start()
	var expired <-chan time.Time
	if !patient {
		s.mu.Lock()
		left := s.mesh.cfg.StartTimeout - time.Since(s.begun)
		s.mu.Unlock()
		start := time.NewTimer(left)
		defer start.Stop()
		expired = start.C
	}
	for {
		s.mu.Lock()
		known, err, changed := s.known, s.err, s.changed
		s.mu.Unlock()
		switch {
		case s.serving.Load():
			return nil
		case patient:
		case err != nil:
			return err
		case known:
			return errNoInstance
		}
		select {
		case <-changed:
		case <-expired:
			return fmt.Errorf("%w within %v", errStartTimeout, s.mesh.cfg.StartTimeout)
		case <-ctx.Done():
			if err == nil && known {
				err = errNoInstance
			} else if err == nil {
				err = errStartTimeout
			}
			return fmt.Errorf("%w (%w)", withCause(ctx, ctx.Err()), err)
		case <-s.ctx.Done():
			if s.mesh.ctx.Err() != nil {
				return ErrClosed
			}
			return errForgotten
		}
	}
}

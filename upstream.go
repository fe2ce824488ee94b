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
)

// upstream is what the mesh knows of one service whatever the spec says of it: its endpoints and what watches them. It outlives
// the generations of the spec as long as they, or calls, name the service.
type upstream struct {
	mesh     *Mesh
	name     string
	key      string                  // name in lower case
	now      atomic.Pointer[service] // as the present generation has it
	balancer *loadbalance.Balancer
	checking sync.Mutex             // guards watched, and lets one replace checks at a time
	checks   atomic.Pointer[checks] // nil if there are none
	watched  bool
	waiting  atomic.Int32    // calls that wait with no attempt in flight
	ctx      context.Context // of the watch
	stop     context.CancelCauseFunc
	watching sync.Once
	used     atomic.Int64 // when a call was last made, in seconds of the mesh
	serving  atomic.Bool  // there are endpoints
	probing  atomic.Pointer[probing]
	zoning   zoning

	news       news
	shedding   shedding
	attendance attendance
	operations operations

	latest []discovery.Endpoint // the set that update has just taken; of the watch, and only if there are snapshots

	mu      sync.Mutex // guards what follows
	begun   time.Time  // when it was first asked
	known   bool       // it has answered
	err     error      // why it does not answer now
	last    discovery.Event
	renewed time.Time     // when there was another set
	changed chan struct{} // closed at the next change of the above
	subs    map[*subscription]struct{}
}

// newUpstream returns one that is not watched yet, for a service with the policy.
func newUpstream(m *Mesh, name string, p *Policy) *upstream {
	u := &upstream{
		mesh: m, name: name, key: strings.ToLower(name),
		changed: make(chan struct{}),
		subs:    map[*subscription]struct{}{},
	}
	u.used.Store(seconds(m.now())) // or it would seem to be the one idle longest
	u.ctx, u.stop = context.WithCancelCause(m.ctx)
	at := m.site.Load()
	u.zoning.late = at.asked && p.Locality.Mode == On
	u.balancer = loadbalance.New(u.balancerOf(p, at))
	u.checks.Store(newChecks(u, p))
	return u
}

// balancer returns the set-up of the balancer of a service with the policy.
func (p *Policy) balancer(m *Mesh, at *site) loadbalance.Config {
	c := loadbalance.Config{
		Builder: p.builder(m.cfg.Balancers), Rand: m.cfg.Rand,
		Panic: p.Panic, OverProvisioning: p.OverProvisioning,
		Subset:   loadbalance.Subset{Size: p.Subset, Client: m.cfg.Instance, Clients: m.cfg.Peers, Index: m.cfg.PeerIndex},
		Limit:    p.EndpointLimit.balancer(),
		Unproven: p.HealthCheck.Mode == On && p.HealthCheck.Unproven == On,
	}
	if p.Lane.Mode == On {
		c.Subset.Lane, c.Subset.Stable = p.Lane.Key, p.Lane.Stable
	}
	if p.Breaker.Mode == On {
		b := p.Breaker.config(p)
		c.Breaker = &b
	}
	if p.Outlier.Mode == On {
		o := p.Outlier.config()
		c.Outlier = &o
	}
	if p.SlowStart.Mode == On {
		s := p.SlowStart.config()
		c.SlowStart = &s
	}
	if p.Locality.Mode == On {
		c.Locality = p.Locality.config(at.zone, at.asked)
	}
	return c
}

// balancerOf is balancer with what happens told.
func (u *upstream) balancerOf(p *Policy, at *site) loadbalance.Config {
	c := p.balancer(u.mesh, at)
	if u.mesh.told() {
		c.Observe = u.balanced
	}
	return c
}

// start begins to watch a service that was not named in the spec, when endpoints of it are first asked for.
func (s *upstream) start() {
	s.watching.Do(func() {
		s.begin()
		s.mesh.task(s.watch)
	})
}

// begin notes that the service is asked for.
func (s *upstream) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun = time.Now()
}

// watch keeps the balancer up to date until the mesh is closed or the service is forgotten.
func (s *upstream) watch() {
	s.checking.Lock()
	s.watched = true
	if c := s.checks.Load(); c != nil {
		c.begin()
	}
	s.checking.Unlock()
	cfg := &s.mesh.cfg
	opts := discovery.RunOptions{
		Rand: cfg.Rand, EmptyGrace: cfg.Discovery.EmptyGrace, MaxRemoval: cfg.Discovery.MaxRemoval,
		Addresses: cfg.Addresses, Snapshot: cfg.Snapshot, Observe: s.observe,
	}
	_ = discovery.Run(s.ctx, cfg.Resolver, s.name, opts, s.update) // it ends with the context only
	s.linger()
	s.balancer.Update(nil)
	s.change(func() {
		if s.err = context.Cause(s.ctx); s.mesh.ctx.Err() != nil {
			s.err = ErrClosed
		}
	})
}

// linger keeps the endpoints of a service that has been forgotten for the calls that have begun. One that gave way to others has
// only those for which it is seen to be in use: there can be thousands of such services in a second.
func (s *upstream) linger() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	crowded := errors.Is(context.Cause(s.ctx), errForgotten)
	for s.inUse() || !crowded && s.recent() {
		select {
		case <-tick.C:
		case <-s.mesh.ctx.Done():
			return
		}
	}
}

// keep has the service linger for a call that waits, until release is called.
func (s *upstream) keep() (release func()) {
	s.waiting.Add(1)
	return func() {
		s.touch(s.mesh.now())
		s.waiting.Add(-1)
	}
}

// recent reports whether there may be a call that has just begun, or is between two attempts.
func (s *upstream) recent() bool { return seconds(s.mesh.now())-s.used.Load() < 2 }

// inUse reports whether there is a call that waits or has an attempt in flight.
func (s *upstream) inUse() bool {
	return s.waiting.Load() > 0 ||
		slices.ContainsFunc(s.balancer.Set().Nodes(), func(n *loadbalance.Node) bool { return n.InFlight() > 0 })
}

func (s *upstream) change(set func()) {
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
func (s *upstream) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.subs) > 0
}

// seconds counts the full ones since the base of the mesh.
func seconds(now time.Duration) int64 { return int64(now / time.Second) }

// touch notes that the service is in use. A second is exact enough to find the one idle longest, and the
// word is written once a second only.
func (s *upstream) touch(now time.Duration) {
	if sec := seconds(now); s.used.Load() != sec {
		last := s.used.Swap(sec)
		if c := s.checks.Load(); c != nil {
			c.used(sec, last)
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
func (s *upstream) wait(ctx context.Context, patient bool) error {
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
			return context.Cause(s.ctx)
		}
	}
}

// balancing is what the balancer of a service goes by, but for what cannot change while the mesh lives.
type balancing struct {
	picking
	subset           int
	panic            float64
	overProvisioning float64
	endpointLimit    EndpointLimit
	breaker          Breaker
	outlier          Outlier
	slowStart        SlowStart
	locality         Locality
	unproven         bool
}

func (p *Policy) balancing() balancing {
	return balancing{
		p.picking(), p.Subset, p.Panic, p.OverProvisioning,
		p.EndpointLimit, p.Breaker, p.Outlier, p.SlowStart, p.Locality, p.HealthCheck.Mode == On && p.HealthCheck.Unproven == On,
	}
}

// renews reports whether the endpoints of the service are balanced or checked otherwise than those of old, or their keys are found
// elsewhere.
func (s *service) renews(old *service, path string, reset func(path, what string)) bool {
	is, was := &s.policy, &old.policy
	if was.Breaker.Mode == On && was.Breaker != is.Breaker {
		reset(path+".breaker", "forgets what was counted; endpoints whose breaker is open keep an open one, if they have one")
	}
	if was.Outlier.Mode == On && (is.Outlier.Mode != On || pick(is.Outlier.Window, defaultWindow) != pick(was.Outlier.Window, defaultWindow)) {
		reset(path+".outlier", "forgets what was counted")
	}
	if was.EndpointLimit.Mode == On && (is.EndpointLimit.Mode != On || is.EndpointLimit.Algorithm != was.EndpointLimit.Algorithm) {
		reset(path+".endpointLimit", "forgets what was found")
	}
	if was.HealthCheck.Mode == On && !sameChecks(is, was) {
		reset(path+".healthCheck", "begins anew; endpoints stay as they are until their first check")
	}
	return is.balancing() != was.balancing() || !sameChecks(is, was) || s.keyed != old.keyed || !slices.Equal(is.Hash, was.Hash)
}

// defaultWindow is that of outliers.
const defaultWindow = 10 * time.Second

func sameChecks(a, b *Policy) bool {
	return a.HealthCheck == b.HealthCheck && (a.HealthCheck.Mode != On || a.Connect.ServerName == b.Connect.ServerName)
}

// renew has the endpoints balanced and checked as s, which has just been put in force, has it.
func (u *upstream) renew(s *service) {
	u.balancer.Configure(u.balancerOf(&s.policy, u.mesh.site.Load()))
	u.recheck(&s.policy)
	u.change(func() {})
}

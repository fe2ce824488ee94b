package loadbalance

import (
	"cmp"
	"slices"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
)

// setup is what a Config makes of a Balancer. It does not change.
type setup struct {
	cfg       Config    // with defaults
	outliers  *outliers // nil if nothing is ejected
	slowStart *SlowStart
	limit     *LimitConfig
	locality  *locality // nil if zones do not matter
	timed     bool      // latencies of nodes are averaged
}

// prepare returns the set-up for a Config after another one, which may be nil. b.mu is held, or nobody has b yet.
func (b *Balancer) prepare(cfg Config, was *setup) *setup {
	if cfg.Builder == nil {
		cfg.Builder = PeakEWMA
	}
	if cfg.Panic == 0 || cfg.Panic != cfg.Panic {
		cfg.Panic = 0.5
	}
	cfg.Panic = min(cfg.Panic, 1)
	if !(cfg.OverProvisioning > 0) {
		cfg.OverProvisioning = 1.4
	}
	cfg.OverProvisioning = max(cfg.OverProvisioning, 1)
	cfg.Locality = cfg.Locality.withDefaults()
	is := &setup{cfg: cfg}
	if cfg.Outlier != nil {
		if b.judge == nil {
			b.judge = newOutliers(*cfg.Outlier, b.random, &b.changes)
		}
		is.outliers = b.judge
		is.timed = cfg.Outlier.Latency > 0
	}
	if cfg.SlowStart != nil {
		c := cfg.SlowStart.withDefaults()
		is.slowStart = &c
	}
	if cfg.Limit != nil {
		c := cfg.Limit.withDefaults()
		is.limit = &c
	}
	if cfg.Locality.Zone != "" || cfg.Locality.Late {
		if was == nil || was.locality == nil {
			is.locality = newLocality(cfg.Locality.Zone)
		} else if is.locality = was.locality; cfg.Locality.Zone != "" {
			is.locality.named.Store(&is.cfg.Locality.Zone)
		}
	}
	return is
}

// Configure makes the balancer go by another Config, but for Rand, which stays. Nodes stay with all that is known of them: their
// load, latency and penalties, ejections, and what was counted for ejections unless Outlier.Window changes. Where nothing is
// ejected any more, nodes that are come back. A breaker or limit that changes is made anew, but a breaker that is open stays so,
// and a limit that was found is kept within its new bounds. Unproven is for nodes that are yet to come. Other algorithms, subsets
// and zones take effect at once: Set returns another snapshot from then on.
func (b *Balancer) Configure(cfg Config) {
	now := time.Since(b.base)
	defer b.tell(now)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.observe(cfg.Observe)
	was := b.setup.Load()
	is := b.prepare(cfg, was)
	switch {
	case is.outliers != nil:
		b.judge.configure(*cfg.Outlier)
	case b.judge != nil:
		b.judge.end(now)
	}
	renew := !sameBreaker(is.cfg.Breaker, was.cfg.Breaker)
	for _, n := range b.nodes {
		if renew {
			n.breaker.Store(b.breakerAfter(n.breaker.Load(), is, now))
		}
		n.observeBreaker()
		if (is.outliers != nil || is.locality != nil) && n.health.Load() == nil {
			n.health.Store(&health{})
		}
		if is.limit == nil {
			n.limit.Store(nil)
		} else if old := n.limit.Load(); old == nil || *old.cfg != *is.limit {
			n.limit.Store(old.after(is.limit))
		}
	}
	for _, e := range b.absent.byAddr {
		if renew {
			e.breaker = b.breakerAfter(e.breaker, is, now)
		}
		if is.outliers == nil && e.out > 0 {
			e.out = 0
		}
	}
	b.setup.Store(is)
	b.reports.Store(false) // the algorithm says so anew
	b.probing.Store(nil)
	b.checked.Store(b.checked.Load() || cfg.Unproven)
	all := make([]discovery.Endpoint, 0, len(b.nodes)+len(b.others))
	for _, n := range b.set.Load().nodes {
		all = append(all, n.Endpoint())
	}
	if len(b.others) > 0 {
		all = append(all, b.others...)
		slices.SortFunc(all, func(x, y discovery.Endpoint) int { return cmp.Compare(x.Addr, y.Addr) })
	}
	b.update(all, now)
	b.changes.Add(1)
}

// sameBreaker reports whether two breakers decide alike. How long a probe has, and what is random, makes no difference.
func sameBreaker(x, y *resilience.BreakerConfig) bool {
	if x == nil || y == nil {
		return x == y
	}
	c, d := *x, *y
	c.Lease, d.Lease, c.Seed, d.Seed = 0, 0, 0, 0
	return c == d
}

// breakerAfter returns the breaker of a node that had another one, or none.
func (b *Balancer) breakerAfter(old *resilience.Breaker, is *setup, now time.Duration) *resilience.Breaker {
	n := is.breaker(b)
	if n == nil || old == nil {
		return n
	}
	if s := old.State(now); s == resilience.BreakerOpen || s == resilience.BreakerHalfOpen {
		_ = n.Force(now, s)
	}
	return n
}

// breaker returns a new breaker, nil if nodes have none.
func (is *setup) breaker(b *Balancer) *resilience.Breaker {
	if is.cfg.Breaker == nil {
		return nil
	}
	c := *is.cfg.Breaker
	c.Seed = b.random()
	return resilience.NewBreaker(c)
}

// after returns the limit of a node that had another one, or none.
func (l *limit) after(cfg *LimitConfig) *limit {
	n := &limit{cfg: cfg}
	if l == nil || !l.cfg.Adaptive || !cfg.Adaptive {
		return n
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n.adaptive = l.adaptive
	if found := l.found.Load(); found != 0 {
		found = min(max(found, int64(cfg.Min)), int64(cfg.Max))
		n.found.Store(found)
		n.adaptive.limit = float64(found)
	}
	return n
}

// without returns those of all that are not in part, which is in the same order.
func without(all, part []discovery.Endpoint) (rest []discovery.Endpoint) {
	if len(all) == len(part) {
		return nil
	}
	for i := range all {
		if len(part) > 0 && part[0].Addr == all[i].Addr {
			part = part[1:]
		} else {
			rest = append(rest, all[i])
		}
	}
	return rest
}

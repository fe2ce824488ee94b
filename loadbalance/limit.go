package loadbalance

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// ErrLimited says that every endpoint that could be picked has as many attempts in flight as it may; see Config.Limit.
// errors.Is also finds resilience.ErrLimited in it.
var ErrLimited = fmt.Errorf("loadbalance: all endpoints at their limit: %w", resilience.ErrLimited)

// LimitConfig bounds how many attempts this client has in flight on one node. A node at its limit is passed over like one
// that was tried, but it is not out of service: it does not count for panic, priorities and zones.
type LimitConfig struct {
	// Max is the largest limit. 0 means 1024, the default of Envoy's circuit breakers, if the limit is fixed, and else that
	// there is none as long as all goes well.
	Max int
	// Adaptive lets the limit follow what a node can answer in time. There is none (but Max) as long as attempts take less than
	// half of what they may, by their Report.Bound, beyond what the fastest ones take, and none is refused for overload. A node
	// that cannot answer in time works for callers who have left, and less of that is more for the others. Three in ten late
	// attempts, or more, bring the limit down; fewer do not, so that a service of which a part is slow whatever the load is
	// left alone. It is lifted when none was late for 10 s. What fails at once, as endpoints do that are broken, is no sign
	// of too much.
	Adaptive bool
	// Min is the least that an adaptive limit falls to. 0 means 1: of many clients, each can have so small a part of a node.
	Min int
}

const (
	defaultMaxInFlight = 1024
	defaultMinInFlight = 1
	largestLimit       = 1_000_000
)

// Validate reports every field that makes no sense. A Balancer brings such fields into range.
func (c LimitConfig) Validate() error {
	var errs []error
	if c.Max < 0 || c.Max > largestLimit {
		errs = append(errs, fmt.Errorf("max: must be between 0 and %d, got %d", largestLimit, c.Max))
	}
	if c.Min < 0 || c.Min > largestLimit {
		errs = append(errs, fmt.Errorf("min: must be between 0 and %d, got %d", largestLimit, c.Min))
	} else if c.Max > 0 && c.Min > c.Max {
		errs = append(errs, fmt.Errorf("min: must not be more than max (%d), got %d", c.Max, c.Min))
	}
	return errors.Join(errs...)
}

// WithDefaults returns the configuration as a Balancer takes it: with the defaults in place of fields that are 0.
func (c LimitConfig) WithDefaults() LimitConfig { return c.withDefaults() }

func (c LimitConfig) withDefaults() LimitConfig {
	switch {
	case c.Max > 0:
		c.Max = min(c.Max, largestLimit)
	case c.Adaptive:
		c.Max = math.MaxInt32
	default:
		c.Max = defaultMaxInFlight
	}
	if c.Min <= 0 {
		c.Min = defaultMinInFlight
	}
	c.Min = min(c.Min, c.Max)
	return c
}

// limit is that of a node.
type limit struct {
	cfg   *LimitConfig
	found atomic.Int64 // 0 if there is none but cfg.Max

	mu       sync.Mutex // guards adaptive, and writes of found
	adaptive adaptive
}

func (l *limit) now() int64 {
	if found := l.found.Load(); found != 0 {
		return found
	}
	return int64(l.cfg.Max)
}

// observe learns from an attempt that has ended, with which so many were in flight.
func (l *limit) observe(now time.Duration, r *Report, inflight int64) {
	if !l.cfg.Adaptive {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.adaptive.observe(now, r, inflight, float64(l.cfg.Min), float64(l.cfg.Max))
	if found := int64(l.adaptive.limit); found != l.found.Load() {
		l.found.Store(found)
	}
}

// Limit returns how many attempts may be in flight on the node, and false if there is no limit.
func (n *Node) Limit() (max int, ok bool) {
	l := n.limit.Load()
	if l == nil || l.now() == math.MaxInt32 {
		return 0, false
	}
	return int(l.now()), true
}

// full reports whether as much is in flight on the node as may be.
func (n *Node) full() bool {
	l := n.limit.Load()
	return l != nil && n.inflight.Load() >= l.now()
}

// claim begins an attempt on the node unless its limit or its breaker is against that.
func (n *Node) claim(in *Info) (Pick, bool) {
	if l := n.limit.Load(); l == nil {
		n.inflight.pick()
	} else if !n.inflight.below(l.now()) {
		return Pick{}, false
	}
	var permit resilience.Permit
	if b := n.breaker.Load(); b != nil {
		ok := false
		if permit, ok = b.Allow(n.since(in.Now)); !ok {
			if n.inflight.unpick() == 0 && n.gone() {
				n.release()
			}
			return Pick{}, false
		}
	}
	return started(n, in, permit), true
}

// end takes an attempt off the node.
func (n *Node) end() {
	if n.inflight.Add(-1) == 0 && n.gone() {
		n.release()
	}
}

// within is pick where nodes have limits. n was chosen without regard to them, as nearly always nobody is at one.
func (s *Set) within(p *plan, in *Info, n *Node) (Pick, error) {
	if pick, ok := n.claim(in); ok {
		return pick, nil
	}
	in.within, in.except = true, n
	for range draws {
		s.more(in)
		in.how = HowNone
		in.uncompared()
		m := s.choose(p, in)
		if !in.Usable(m) || in.Other && slices.Contains(in.Avoid, m) {
			break
		}
		if pick, ok := m.claim(in); ok {
			return pick, nil
		}
	}
	return s.admitted(p, in, n)
}

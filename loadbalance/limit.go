package loadbalance

import (
	"errors"
	"fmt"
	"math"
	"slices"
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
	// Adaptive lets the limit follow what a node can answer in time. There is none (but Max) until an attempt on the node times
	// out or is refused for overload. Then it is what was in flight, and each such attempt takes a tenth from it: a node that
	// cannot answer in time works for callers who have left, and less of that is more for the others. It grows by one whenever
	// as many attempts as it admits have succeeded, as long as at least half of it is in use ("additive increase,
	// multiplicative decrease", as for TCP), and is lifted when nothing has gone wrong for 10 s.
	//
	// Where a part p of all attempts goes wrong whatever the load, as when a server refuses some users for their quotas, the
	// limit comes to rest near the root of 10/p: 30 for a hundredth. Do not use it where nodes that are well need more.
	Adaptive bool
	// Min is the least that an adaptive limit falls to. 0 means 3, or Max if that is less.
	Min int
}

const (
	defaultMaxInFlight = 1024
	defaultMinInFlight = 3
	largestLimit       = 1_000_000
	// limitBackoff is what an attempt that goes wrong leaves of a limit; see resilience.LimitConfig.
	limitBackoff = 0.9
	// limitMemory is how long a node must do well to be trusted as before. A limit that still matters is found again
	// long before: it grows until something goes wrong.
	limitMemory = 10 * time.Second
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
	found atomic.Uint64 // float64 bits of the limit, 0 if there is none but cfg.Max
	wrong atomic.Int64  // when something last went wrong
}

func (l *limit) now() int64 {
	if bits := l.found.Load(); bits != 0 {
		return int64(math.Float64frombits(bits))
	}
	return int64(l.cfg.Max)
}

// observe learns from an attempt that has ended, with which so many were in flight.
func (l *limit) observe(now time.Duration, r *Report, inflight int64) {
	if !l.cfg.Adaptive {
		return
	}
	bits := l.found.Load()
	if r.TimedOut || r.Outcome == resilience.Overload {
		l.wrong.Store(int64(now))
		for {
			old := math.Float64frombits(bits)
			if bits == 0 {
				old = float64(inflight)
			}
			next := min(max(old*limitBackoff, float64(l.cfg.Min)), float64(l.cfg.Max))
			if l.found.CompareAndSwap(bits, math.Float64bits(next)) {
				return
			}
			bits = l.found.Load()
		}
	}
	if bits == 0 || r.Outcome != resilience.Success {
		return
	}
	// Whoever comes too late for one of these has seen a limit that is out of date.
	if int64(now)-l.wrong.Load() > int64(limitMemory) {
		l.found.CompareAndSwap(bits, 0)
	} else if old := math.Float64frombits(bits); float64(inflight)*2 >= old {
		l.found.CompareAndSwap(bits, math.Float64bits(min(old+1/old, float64(l.cfg.Max))))
	}
}

// Limit returns how many attempts may be in flight on the node, and false if there is no limit.
func (n *Node) Limit() (max int, ok bool) {
	if n.limit == nil || n.limit.now() == math.MaxInt32 {
		return 0, false
	}
	return int(n.limit.now()), true
}

// full reports whether as much is in flight on the node as may be.
func (n *Node) full() bool { return n.limit != nil && n.inflight.Load() >= n.limit.now() }

// claim begins an attempt on the node unless its limit or its breaker is against that.
func (n *Node) claim(now time.Time) (Pick, bool) {
	if n.limit == nil {
		n.inflight.Add(1)
	} else {
		for most := n.limit.now(); ; {
			v := n.inflight.Load()
			if v >= most {
				return Pick{}, false
			}
			if n.inflight.CompareAndSwap(v, v+1) {
				break
			}
		}
	}
	var permit resilience.Permit
	if n.breaker != nil {
		ok := false
		if permit, ok = n.breaker.Allow(n.since(now)); !ok {
			n.end()
			return Pick{}, false
		}
	}
	return started(n, now, permit), true
}

// end takes an attempt off the node.
func (n *Node) end() {
	if n.inflight.Add(-1) == 0 && n.gone() {
		n.release()
	}
}

// within is pick where nodes have limits. n was chosen without regard to them, as nearly always nobody is at one.
func (s *Set) within(p *plan, in *Info, n *Node) (Pick, error) {
	if pick, ok := n.claim(in.Now); ok {
		return pick, nil
	}
	in.within, in.except = true, n
	for range draws {
		in.Random = s.balancer.random()
		m := s.choose(p, in)
		if !in.Usable(m) || in.Other && slices.Contains(in.Avoid, m) {
			break
		}
		if pick, ok := m.claim(in.Now); ok {
			return pick, nil
		}
	}
	return s.admitted(p, in, n)
}

package loadbalance

import (
	"slices"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// Set is an immutable snapshot of the nodes of a service, ready to pick from.
type Set struct {
	balancer *Balancer
	nodes    []*Node // all of the snapshot
	picking  []*Node // those that take traffic
	picker   Picker
}

// Nodes returns all nodes of the snapshot. The slice is shared and read-only.
func (s *Set) Nodes() []*Node { return s.nodes }

// Pick chooses a node and counts an attempt on it as in flight until Done of the Pick is called. It returns
// ErrNoEndpoints, ErrUnavailable or, if in.Other is set, ErrNoOther.
func (s *Set) Pick(in Info) (Pick, error) {
	if s.picker == nil {
		return Pick{}, ErrNoEndpoints
	}
	in.Random = s.balancer.cfg.Rand()
	n := s.picker.Pick(in)
	if in.Other && slices.Contains(in.Avoid, n) {
		return Pick{}, ErrNoOther
	}
	if n.breaker == nil {
		return begin(n, in.Now, resilience.Permit{}), nil
	}
	if permit, ok := n.breaker.Allow(); ok {
		return begin(n, in.Now, permit), nil
	}
	return s.admitted(in, n)
}

// Sound reports whether a node is left that is available, not to be avoided, and has neither failed a short while ago
// nor asked for a pause that is not over. Of large sets it looks at a part.
func (s *Set) Sound(in Info) bool {
	if len(s.picking) == 0 {
		return false
	}
	in.Sound, in.Random = true, s.balancer.cfg.Rand()
	return sound(s.picking, &in) != nil
}

// admitted looks for any node whose breaker admits an attempt, after that of rejected did not: untried nodes
// first. Rejections are rare enough for a walk.
func (s *Set) admitted(in Info, rejected *Node) (Pick, error) {
	for _, tried := range []bool{false, true} {
		if tried && in.Other {
			return Pick{}, ErrNoOther
		}
		start := index(in.Random, len(s.picking))
		for k := range s.picking {
			n := s.picking[(start+k)%len(s.picking)]
			if n == rejected || slices.Contains(in.Avoid, n) != tried {
				continue
			}
			if permit, ok := n.breaker.Allow(); ok {
				return begin(n, in.Now, permit), nil
			}
		}
	}
	return Pick{}, ErrUnavailable
}

// Pick is one attempt on a node. Done must be called exactly once. The zero Pick has no node.
type Pick struct {
	node   *Node
	start  time.Duration // after the base of the node
	permit resilience.Permit
}

func begin(n *Node, now time.Time, permit resilience.Permit) Pick {
	start := n.since(now)
	n.inflight.Add(1)
	n.penalty.try(start)
	return Pick{node: n, start: start, permit: permit}
}

// Node returns the node that was picked, nil for the zero Pick.
func (p Pick) Node() *Node { return p.node }

// Start returns the time of the pick, zero for the zero Pick.
func (p Pick) Start() time.Time {
	if p.node == nil {
		return time.Time{}
	}
	return p.node.base.Add(p.start)
}

// Report is how an attempt went.
type Report struct {
	// Now is the time of the report. Required.
	Now time.Time
	// Outcome is its class.
	Outcome resilience.Outcome
	// Latency is how long the answer took. For a Neutral outcome it is how long no answer came before the
	// attempt was given up. 0 says that the attempt tells nothing about speed.
	Latency time.Duration
	// Overdue says of a Neutral outcome that the attempt was given up after so long that the endpoint may hang.
	// Picks then avoid it as if it had failed; its breaker learns nothing.
	Overdue bool
	// After is the pause the server asked for, 0 or less if none. More than a minute counts as a minute.
	After time.Duration
}

// Done ends the attempt.
func (p Pick) Done(r Report) {
	n := p.node
	if n == nil {
		return
	}
	start, now := p.start, n.since(r.Now)
	switch r.Outcome {
	case resilience.Success:
		if r.Latency > 0 {
			n.cost.observe(now, r.Latency)
		}
		n.penalty.succeed(start)
	case resilience.Failure, resilience.Overload:
		// A slow failure is at least as slow as it was; a fast one says nothing about speed.
		n.cost.raise(now, r.Latency)
		n.penalty.fail(start, now, r.After, n.rand())
	default:
		if r.Overdue {
			// Its cost alone keeps nobody away for long: where all attempts are given up, none is in flight,
			// and one on an idle hung endpoint looks cheaper than a third one on a busy good one.
			n.penalty.fail(start, now, 0, n.rand())
		}
		if r.Latency > 0 {
			n.cost.raise(now, r.Latency)
		} else {
			n.penalty.drop(start, now)
		}
	}
	p.permit.Done(r.Outcome)
	if n.inflight.Add(-1) == 0 && n.gone.Load() {
		n.release()
	}
}

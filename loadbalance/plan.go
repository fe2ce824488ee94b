package loadbalance

import (
	"math"
	"sync/atomic"
)

// plan is how the calls are shared between the levels of a Set while the same nodes are ejected and zones carry as much. But for wake and
// parts it is immutable.
type plan struct {
	changes    uint64  // of the balancer, when it was made
	shares     []share // at least one
	panicking  bool    // on some level
	out, nodes int     // how many of the nodes are out of service
	leaving    float64 // the part of the calls that the first of several levels does not get
	taken      bool    // an operator took some out of service
	ejected    []*Node
	wake       atomic.Int64                      // when the next of them is to be probed
	parts      atomic.Pointer[map[*Node]float64] // of the calls, nil until somebody asks
}

// share is the part of the calls that a level gets.
type share struct {
	level     *level
	upTo      uint64 // random words up to it are this level's, or an earlier one's
	panicking bool
}

// draw returns the share that a random word falls on.
func (p *plan) draw(r uint64) *share {
	for i := range p.shares {
		if r <= p.shares[i].upTo {
			return &p.shares[i]
		}
	}
	return &p.shares[len(p.shares)-1]
}

// replan replaces the plan, nil for the first one. If somebody else is about it, old serves a little longer.
func (s *Set) replan(old *plan) *plan {
	if !s.planning.CompareAndSwap(false, true) {
		return old
	}
	defer s.planning.Store(false)
	p := s.newPlan()
	s.plan.Store(p)
	return p
}

// newPlan returns a plan for what is now.
func (s *Set) newPlan() *plan {
	p := &plan{changes: s.balancer.changes.Load()} // first: what changes from now on is seen again
	loads := make([]float64, len(s.levels))
	serving := make([]int, len(s.levels))
	taken := make([]int, len(s.levels)) // by an operator
	wake := int64(math.MaxInt64)
	for i := range s.levels {
		l := &s.levels[i]
		serving[i] = len(l.nodes)
		if s.setup.outliers != nil || s.balancer.checked.Load() {
			for _, n := range l.nodes {
				switch until := n.out.Load(); {
				case until == unfit:
					serving[i]--
				case until <= byHand:
					serving[i]--
					taken[i]++
				case until > 0:
					serving[i]--
					p.ejected = append(p.ejected, n)
					wake = min(wake, until)
				}
			}
		}
		p.out += len(l.nodes) - serving[i]
		loads[i] = levelHealth(serving[i]+l.awaited, l.all+l.awaited+l.missing, s.setup.cfg.OverProvisioning)
		if l.band != nil {
			loads[i] *= l.band.stays()
		}
	}
	p.wake.Store(wake)
	enough := levelLoads(loads)
	var sum float64
	for i := range s.levels {
		l := &s.levels[i]
		panicking := !enough && serving[i] < len(l.nodes)-taken[i] && float64(serving[i]) < s.setup.cfg.Panic*float64(l.all-taken[i])
		p.taken = p.taken || taken[i] > 0
		if loads[i] == 0 {
			continue
		}
		sum += loads[i]
		sh := share{level: l, upTo: math.MaxUint64, panicking: panicking}
		if sum < 1-1e-9 {
			sh.upTo = uint64(sum * (1 << 63) * 2)
		}
		p.shares = append(p.shares, sh)
		p.panicking = p.panicking || panicking
	}
	if p.shares == nil { // none is in service
		for i := range s.levels {
			p.shares = append(p.shares, share{level: &s.levels[i], upTo: uint64(float64(i+1) / float64(len(s.levels)) * (1<<64 - 1<<11)), panicking: true})
		}
		p.panicking = true
	}
	p.nodes = len(s.nodes)
	if len(s.levels) > 1 {
		stays := 0.0
		if first := &p.shares[0]; first.level == &s.levels[0] {
			stays = float64(first.upTo) / math.MaxUint64
		}
		p.leaving = 1 - stays
	}
	return p
}

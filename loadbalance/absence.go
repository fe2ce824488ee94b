package loadbalance

import (
	"slices"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// What is known of an endpoint is kept for a while after it has left the set, so that a source that loses
// endpoints and finds them again does not make a failing one look new. Longer than the longest default ejection, since a
// node may leave while it is ejected; much longer, and another process may have got the address.
const (
	keepAbsent = 2 * time.Minute
	maxAbsent  = 10_000 // the most endpoints a source may name: all may be lost at once
	fewAbsent  = 100    // not worth to look for those that have come back
)

// absence is what is kept of a node that left.
type absence struct {
	addr          string
	since         time.Duration
	cost          uint64
	penaltyUntil  int64
	penaltyStreak uint64
	out           int64
	health        *health
	breaker       *resilience.Breaker
}

// absences keeps those of a balancer, guarded by its lock.
type absences struct {
	byAddr map[string]*absence
	queue  []*absence // in the order in which they left, with some that have come back
}

// add takes note of a node that leaves, which was in service or not as out says.
func (a *absences) add(n *Node, out int64, now time.Duration) {
	if n.cost.bits.Load() == 0 && n.penalty.streak.Load() == 0 && out == 0 {
		return // nothing is
	}
	e := &absence{
		addr: n.Addr(), since: now, cost: n.cost.bits.Load(),
		penaltyUntil: n.penalty.until.Load(), penaltyStreak: n.penalty.streak.Load(),
		out: out, health: n.health.Load(), breaker: n.breaker.Load(),
	}
	if a.byAddr == nil {
		a.byAddr = map[string]*absence{}
	}
	a.byAddr[e.addr] = e
	a.queue = append(a.queue, e)
	a.expire(now)
}

// expire forgets those that are gone for too long or too many.
func (a *absences) expire(now time.Duration) {
	for len(a.queue) > 0 && (len(a.queue) > maxAbsent || now-a.queue[0].since > keepAbsent) {
		e := a.queue[0]
		a.queue[0] = nil
		a.queue = a.queue[1:]
		if a.byAddr[e.addr] == e {
			delete(a.byAddr, e.addr)
		}
	}
}

// resume gives the new node what is known of its address, and reports whether there is anything.
func (a *absences) resume(n *Node) bool {
	e := a.byAddr[n.Addr()]
	if e == nil {
		return false
	}
	delete(a.byAddr, n.Addr())
	n.cost.bits.Store(e.cost)
	n.penalty.until.Store(e.penaltyUntil)
	n.penalty.streak.Store(e.penaltyStreak)
	n.out.Store(e.out)
	if e.health != nil {
		n.health.Store(e.health)
	}
	n.breaker.Store(e.breaker)
	if len(a.queue) > fewAbsent && len(a.queue) > 2*len(a.byAddr) {
		a.queue = slices.DeleteFunc(a.queue, func(e *absence) bool { return a.byAddr[e.addr] != e })
	}
	return true
}

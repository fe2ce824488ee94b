package loadbalance

import (
	"math"
	"time"
)

// taking is that an operator has taken an endpoint out of service.
type taking struct {
	until time.Duration
	drain bool
	fails bool // its active health checks, meanwhile
}

// out returns the value of Node.out.
func (t *taking) out() int64 {
	if t.drain {
		return drained
	}
	return byHand
}

// TakeOut keeps calls away from the endpoint with that address until a time, as an operator may want: it gets no picks, no probes, and
// no ejections. With drain, calls that are bound to it still go there, see Info.Node, so that sessions can end in
// peace; attempts under way go on in any case. It counts as out of service for priorities and zones, so that
// others help out, but not for Config.Panic: what an operator does is no sign that those who judge are wrong, and panic does not
// bring it back. It outlives updates, also those in which the address is missing for a while.
//
// Of the endpoints that the source names one is always left: TakeOut returns false if all others are taken out, if the
// address is not in the set, or if the time has passed. Where the source withdraws the ones that are left calls go to those taken
// out, since a call that may be unwanted is better than one that must fail. To take out what is taken out already
// replaces time and drain.
//
// The endpoint comes back by PutBack, or with the first pick after that time; as after an ejection, with nothing counted
// against it, and by a slow start.
func (b *Balancer) TakeOut(addr string, until time.Time, drain bool) bool {
	now := time.Since(b.base)
	b.mu.Lock()
	done := b.takeOut(addr, b.since(until), now, drain)
	b.mu.Unlock()
	b.tell(now)
	return done
}

func (b *Balancer) takeOut(addr string, until, now time.Duration, drain bool) bool {
	n := b.nodes[addr]
	if n == nil || until <= now {
		return false
	}
	b.returnDue(now)
	t := b.takings[addr]
	if t == nil {
		left := 0
		for _, m := range b.set.Load().nodes {
			if m != n && m.out.Load() > byHand {
				left++
			}
		}
		if left == 0 || len(b.takings) >= maxAbsent {
			return false
		}
		t = &taking{}
		if b.takings == nil {
			b.takings = map[string]*taking{}
		}
		b.takings[addr] = t
	}
	t.until, t.drain = until, drain
	if n.out.Load() > 0 {
		n.event(Returned, reason{cause: Operator}, now, 0) // from its ejection, which is not gone on with
	}
	b.take(n, t)
	n.event(TakenOut, reason{cause: Operator}, now, until)
	b.changed(now)
	return true
}

// take takes a node out of service. b.mu is held.
func (b *Balancer) take(n *Node, t *taking) {
	out := n.out.Swap(t.out())
	t.fails = t.fails || out == unfit
	b.checked.Store(true)
	b.due.Store(min(b.due.Load(), int64(t.until)))
}

// PutBack ends what TakeOut began, and reports whether there was anything to end.
func (b *Balancer) PutBack(addr string) bool {
	now := time.Since(b.base)
	defer b.tell(now)
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.takings[addr]
	if t == nil {
		return false
	}
	b.putBack(addr, t, now)
	b.changed(now)
	return t.until > now
}

// putBack returns the endpoint with that address to service. b.mu is held.
func (b *Balancer) putBack(addr string, t *taking, now time.Duration) {
	delete(b.takings, addr)
	n := b.nodes[addr]
	if n == nil {
		return // and nobody is told of what is not there
	}
	n.event(PutBack, reason{cause: Operator}, now, 0)
	if t.fails {
		n.out.Store(unfit)
		return
	}
	n.out.Store(0)
	if h := n.health.Load(); h != nil {
		h.reset(now)
	}
	if b.setup.Load().slowStart != nil {
		n.grow(now)
	}
}

// returnDue returns the endpoints to service whose time is up, and reports whether there were any. b.mu is held.
func (b *Balancer) returnDue(now time.Duration) (changed bool) {
	due := int64(math.MaxInt64)
	for addr, t := range b.takings {
		if t.until <= now {
			b.putBack(addr, t, now)
			changed = true
		} else {
			due = min(due, int64(t.until))
		}
	}
	b.due.Store(due)
	return changed
}

// changed has sets plan anew, and the ceiling of ejections worked out. b.mu is held.
func (b *Balancer) changed(now time.Duration) {
	b.changes.Add(1)
	if d := b.setup.Load().outliers; d != nil {
		set := b.set.Load()
		d.renew(set.nodes, set.healthy(), now)
	}
}

// expire returns the endpoints to service whose time is up, unless somebody else has the lock: a later pick will, then.
func (s *Set) expire(p *plan, in *Info) *plan {
	b := s.balancer
	now := b.since(in.Now)
	if int64(now) < b.due.Load() || !b.mu.TryLock() {
		return p
	}
	if b.returnDue(now) {
		b.changed(now)
	}
	b.mu.Unlock()
	b.tell(now)
	return s.current()
}

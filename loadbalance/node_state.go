package loadbalance

import "time"

// EjectedUntil returns when the node is probed, and the zero time if it is not ejected.
func (n *Node) EjectedUntil() time.Time {
	if until := n.out.Load(); until > 0 {
		return n.owner.base.Add(time.Duration(until))
	}
	return time.Time{}
}

// EjectedFor returns why the node was ejected, NoCause if it is not.
func (n *Node) EjectedFor() Cause {
	if h := n.health.Load(); h != nil && n.Ejected() {
		return Cause(h.cause.Load())
	}
	return NoCause
}

// SlowStart returns what part of its share the node gets because it is new or was away, from 0 to 1; 1 if it is neither, or if
// nothing is slowed.
func (n *Node) SlowStart(now time.Time) float64 { return n.part(n.since(now)) }

// LeftOut returns how many endpoints of the last update Subset has left out.
func (b *Balancer) LeftOut() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.others)
}

package loadbalance

import "time"

// SetFailing tells whether the endpoint with that address fails its active health checks; see package healthcheck. One
// that does gets no attempts, not even one to probe it after an ejection, which ends. It still gets some while so few
// others are in service that ejections do not count. One that does no longer comes back as after an ejection: with nothing
// counted against it, and by a slow start. SetFailing reports whether that is a change, which it is not for an address that
// is not in the set.
func (b *Balancer) SetFailing(addr string, fails bool, now time.Time) (changed bool) {
	defer b.tell(b.since(now))
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.nodes[addr]
	if n == nil {
		return false
	}
	set, at := b.set.Load(), b.since(now)
	crowded := set.Panicking() // and so it has been getting attempts
	var next int64
	if fails {
		next = unfit
	}
	if t := b.takings[addr]; t != nil {
		changed, t.fails = t.fails != fails, fails
		return changed
	}
	for {
		out := n.out.Load()
		if (out == unfit) == fails {
			return false
		}
		if n.out.CompareAndSwap(out, next) {
			break
		}
	}
	if !fails {
		if h := n.health.Load(); h != nil {
			h.reset(at)
		}
		if b.setup.Load().slowStart != nil && !crowded {
			n.grow(at)
		}
	}
	b.checked.Store(true)
	b.changes.Add(1)
	if d := b.setup.Load().outliers; d != nil {
		d.renew(set.nodes, set.healthy(), at)
	}
	return true
}

// EndEjection returns the endpoint with that address to service if it is ejected, with nothing counted against it.
func (b *Balancer) EndEjection(addr string, now time.Time) {
	defer b.tell(b.since(now))
	b.mu.Lock()
	defer b.mu.Unlock()
	if n, d := b.nodes[addr], b.setup.Load().outliers; n != nil && d != nil && n.Ejected() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.restore(n, b.since(now))
	}
}

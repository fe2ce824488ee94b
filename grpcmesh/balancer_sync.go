package grpcmesh

import (
	"math/rand/v2"
	"strings"
	"time"

	"google.golang.org/grpc/connectivity"

	"github.com/zerohop/zerohop/loadbalance"
)

// What the meshBalancer does by itself, without gRPC's balancer API.

// adopt makes the pools of a link and returns those that are not in it. b.mu is held.
func (b *meshBalancer) adopt(l *link) (retired []*pool) {
	if b.picker != nil && b.picker.link == l {
		return nil
	}
	next := &picker{owner: b, link: l, pools: make(map[string]*pool, len(l.balancers))}
	old := map[*loadbalance.Balancer]*pool{}
	if b.picker != nil {
		for _, p := range b.picker.pools {
			old[p.balancer] = p
		}
	}
	for name, lb := range l.balancers {
		p := old[lb]
		if p == nil {
			p = newPool(lb)
			p.service = name
		}
		delete(old, lb)
		next.pools[name] = p
	}
	for _, p := range old {
		retired = append(retired, p)
	}
	next.own = next.pools[strings.ToLower(l.service)]
	b.picker = next
	return retired
}

// sync gives a pool the nodes of a set: a child for each address that is new, none for those that nobody uses.
func (b *meshBalancer) sync(p *pool, set *loadbalance.Set) {
	old := p.known.Load()
	if set == old {
		return
	}
	gone, come := difference(old.Nodes(), set.Nodes())
	var fresh, unused []*child
	b.mu.Lock()
	for _, n := range come {
		c := b.children[n.Addr()]
		if c == nil {
			c = b.newChild()
			b.children[n.Addr()] = c
			fresh = append(fresh, c)
		}
		p.join(&member{node: n, child: c}, set.Tiered())
		b.picker.link.near.add(p.service, n)
	}
	for _, n := range gone {
		b.picker.link.near.remove(n)
		if c := p.leave(n); len(c.members) == 0 {
			delete(b.children, n.Addr())
			b.states[c.state.ConnectivityState]--
			unused = append(unused, c)
		}
	}
	p.known.Store(set)
	p.refresh()
	b.expireLater(p)
	b.untold = true
	b.mu.Unlock()
	for _, c := range unused {
		c.close()
	}
	if len(fresh) > 0 { // not all clients are to begin with the same endpoint
		k := rand.IntN(len(fresh))
		for i := range fresh {
			c := fresh[(i+k)%len(fresh)]
			c.connect(c.members[0].node.Addr())
		}
	}
}

// expireLater has expire look at a pool in time. b.mu is held.
func (b *meshBalancer) expireLater(p *pool) {
	if len(p.fresh) > 0 && b.expiry == nil && !b.closed {
		b.expiry = time.AfterFunc(firstConnect, b.expire)
	}
}

// expire lets nodes that are still not connected keep no calls from others.
func (b *meshBalancer) expire() {
	b.mu.Lock()
	b.expiry = nil
	if !b.closed {
		for _, p := range b.picker.pools {
			if len(p.fresh) > 0 {
				p.refresh()
				b.expireLater(p)
			}
		}
	}
	b.mu.Unlock()
	b.tell()
}

// refresh brings the views of all pools up to date.
func (b *meshBalancer) refresh() {
	b.mu.Lock()
	b.timer = nil
	if !b.closed {
		for _, p := range b.picker.pools {
			if p.stale > 0 {
				p.refresh()
			}
		}
	}
	b.mu.Unlock()
	b.tell() // somebody may have found nothing but lost connections
}

// recheck has gRPC pick again soon for RPCs that wait for certain connections, which nobody tells of when they are made.
func (b *meshBalancer) recheck() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.timer == nil && !b.closed {
		b.timer = time.AfterFunc(staleness, b.refresh)
	}
}

// wake has the connections made again that were lost. It ends when there is none, and Close waits for it.
func (b *meshBalancer) wake() {
	for {
		b.mu.Lock()
		idle := b.idle
		b.idle = nil
		if len(idle) == 0 || b.closed {
			b.awake = false
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
		for _, c := range idle {
			c.exitIdle()
		}
	}
}

// connectivity is that of the best child. b.mu is held.
func (b *meshBalancer) connectivity() connectivity.State {
	for _, s := range []connectivity.State{connectivity.Ready, connectivity.Connecting, connectivity.Idle} {
		if b.states[s] > 0 {
			return s
		}
	}
	return connectivity.TransientFailure
}

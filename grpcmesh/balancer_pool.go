package grpcmesh

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/connectivity"

	"github.com/zerohop/zerohop/loadbalance"
)

// pool are the nodes of one service, and which of them gRPC is connected to. Picks read what is atomic; the rest is
// guarded by the lock of the meshBalancer.
type pool struct {
	balancer *loadbalance.Balancer
	known    atomic.Pointer[loadbalance.Set] // all that have members
	view     atomic.Pointer[loadbalance.Set] // those connected, as they were a moment ago
	pending  atomic.Int64                    // nodes that may be connected soon
	pickers  sync.Map                        // of *loadbalance.Node to the picker of its child

	members map[*loadbalance.Node]*member
	ready   []*member // those connected now
	stale   int       // changes of ready since the view was made
}

// member is a node of a pool.
type member struct {
	node  *loadbalance.Node
	child *child // its connection, which nodes of other pools may share
	pool  *pool
	at    int // where it is in pool.ready
}

func newPool(lb *loadbalance.Balancer) *pool {
	p := &pool{balancer: lb, members: map[*loadbalance.Node]*member{}}
	p.known.Store(new(loadbalance.Set))
	p.view.Store(new(loadbalance.Set))
	return p
}

// join adds a member.
func (p *pool) join(m *member) {
	m.pool = p
	m.child.members = append(m.child.members, m)
	p.members[m.node] = m
	p.pickers.Store(m.node, m.child.state.Picker)
	p.enter(m, m.child.state.ConnectivityState)
}

// leave takes out the member for a node and returns the child it used.
func (p *pool) leave(n *loadbalance.Node) *child {
	m := p.members[n]
	delete(p.members, n)
	p.pickers.Delete(n)
	p.exit(m, m.child.state.ConnectivityState)
	m.child.members = slices.DeleteFunc(m.child.members, func(other *member) bool { return other == m })
	return m.child
}

// enter counts a member that is in a state.
func (p *pool) enter(m *member, s connectivity.State) {
	switch s {
	case connectivity.Ready:
		m.at = len(p.ready)
		p.ready = append(p.ready, m)
		p.stale++
	case connectivity.Connecting, connectivity.Idle:
		p.pending.Add(1)
	}
}

// exit undoes enter.
func (p *pool) exit(m *member, s connectivity.State) {
	switch s {
	case connectivity.Ready:
		last := len(p.ready) - 1
		p.ready[m.at], p.ready[last].at = p.ready[last], m.at
		p.ready[last] = nil
		p.ready = p.ready[:last]
		p.stale++
	case connectivity.Connecting, connectivity.Idle:
		p.pending.Add(-1)
	}
}

const (
	// exact is the size up to which a view follows each change at once: that takes a few microseconds.
	exact = 128
	// growth is the part of a larger view, 1/growth, that may be out of date. To make a view takes a fraction of a
	// millisecond with ten thousand nodes. Made for each change, the views of ten thousand connections would take
	// seconds; made for this part, they take ten times as long as one.
	growth = 8
	// staleness is how long a view may be out of date. Ten times as long, and new endpoints would get no calls for a
	// time that people notice; a tenth, and views would take a tenth of a core while connections come and go.
	staleness = 10 * time.Millisecond
)

// changed takes over that the child of a member went from one state to another, and reports whether RPCs that wait
// may go on or fail.
func (p *pool) changed(m *member, was, is connectivity.State) bool {
	if was == is {
		return false
	}
	p.exit(m, was)
	p.enter(m, is)
	if p.stale > 0 && (len(p.ready) <= exact || p.stale*growth >= len(p.view.Load().Nodes())) {
		p.refresh()
	}
	switch {
	case was == connectivity.Ready: // RPCs that had picked it wait for another
		return true
	case is == connectivity.Ready:
		return len(p.ready) == 1
	}
	return len(p.ready) == 0 && p.pending.Load() == 0
}

// refresh makes the view one of the nodes connected now.
func (p *pool) refresh() {
	nodes := make([]*loadbalance.Node, len(p.ready))
	for i, m := range p.ready {
		nodes[i] = m.node
	}
	p.view.Store(p.balancer.View(nodes))
	p.stale = 0
}

// outdated reports whether there are nodes that gRPC does not know yet, so that another state of the resolver is on
// its way.
func (p *pool) outdated() bool {
	now := p.balancer.Set()
	return now != p.known.Load() && len(now.Nodes()) > 0
}

// difference returns the nodes that are in old only and those that are in next only. Lists that differ in little are
// compared without a look at the nodes.
func difference(old, next []*loadbalance.Node) (gone, come []*loadbalance.Node) {
	for len(old) > 0 && len(next) > 0 && old[0] == next[0] {
		old, next = old[1:], next[1:]
	}
	for len(old) > 0 && len(next) > 0 && old[len(old)-1] == next[len(next)-1] {
		old, next = old[:len(old)-1], next[:len(next)-1]
	}
	if len(old) == 0 || len(next) == 0 {
		return old, next
	}
	stay := make(map[*loadbalance.Node]bool, len(old))
	for _, n := range old {
		stay[n] = false
	}
	for _, n := range next {
		if _, ok := stay[n]; ok {
			stay[n] = true
		} else {
			come = append(come, n)
		}
	}
	for _, n := range old {
		if !stay[n] {
			gone = append(gone, n)
		}
	}
	return gone, come
}

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
	service  string // in lower case
	balancer *loadbalance.Balancer
	known    atomic.Pointer[loadbalance.Set] // all that have members
	view     atomic.Pointer[loadbalance.Set] // those connected, as they were a moment ago
	pending  atomic.Int64                    // nodes that may be connected soon
	pickers  sync.Map                        // of *loadbalance.Node to the picker of its child

	members map[*loadbalance.Node]*member
	ready   []*member             // those connected now
	fresh   map[*member]time.Time // of tiered nodes those that have not said yet whether they can be, and since when
	viewed  int                   // how many were ready or fresh when the view was made
	stale   int                   // changes of ready and fresh since then
}

// member is a node of a pool.
type member struct {
	node  *loadbalance.Node
	child *child // its connection, which nodes of other pools may share
	pool  *pool
	at    int // where it is in pool.ready
}

// firstConnect is how long nodes that are being connected to for the first time keep calls from those of the next priority, or of
// other zones. Most servers accept within milliseconds. gRPC's own priorities wait ten seconds (gRFC A56), which callers would
// notice each time they start while an address does not answer.
const firstConnect = time.Second

func newPool(lb *loadbalance.Balancer) *pool {
	p := &pool{balancer: lb, members: map[*loadbalance.Node]*member{}, fresh: map[*member]time.Time{}}
	p.known.Store(new(loadbalance.Set))
	p.view.Store(new(loadbalance.Set))
	return p
}

// join adds a member. Some nodes may be preferred to others, or not.
func (p *pool) join(m *member, tiered bool) {
	m.pool = p
	m.child.members = append(m.child.members, m)
	p.members[m.node] = m
	p.pickers.Store(m.node, m.child.state.Picker)
	p.enter(m, m.child.state.ConnectivityState)
	if tiered && m.child.state.ConnectivityState == connectivity.Connecting && !m.child.told {
		p.fresh[m] = time.Now()
	}
}

// leave takes out the member for a node and returns the child it used.
func (p *pool) leave(n *loadbalance.Node) *child {
	m := p.members[n]
	delete(p.members, n)
	p.pickers.Delete(n)
	p.exit(m, m.child.state.ConnectivityState)
	p.hear(m)
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

// hear notes that it is known of a member whether it can be connected.
func (p *pool) hear(m *member) {
	if _, ok := p.fresh[m]; ok {
		delete(p.fresh, m)
		p.stale++
	}
}

// awaited returns the nodes that may be connected for the first time soon.
func (p *pool) awaited() (nodes []*loadbalance.Node) {
	for m, since := range p.fresh {
		if time.Since(since) >= firstConnect {
			delete(p.fresh, m)
			continue
		}
		nodes = append(nodes, m.node)
	}
	return nodes
}

// changed takes over that the child of a member went from one state to another, and reports whether RPCs that wait
// may go on or fail.
func (p *pool) changed(m *member, was, is connectivity.State) bool {
	if was == is {
		return false
	}
	p.exit(m, was)
	p.enter(m, is)
	p.hear(m)
	filled := false
	if p.stale > 0 && (max(len(p.ready), p.viewed) <= exact || p.stale*growth >= p.viewed) {
		filled = p.refresh()
	}
	// RPCs that had picked a lost one wait for another.
	return was == connectivity.Ready || filled || len(p.ready) == 0 && p.pending.Load() == 0
}

// refresh makes the view one of the nodes connected now, and reports whether there are any for the first time since there
// were none.
func (p *pool) refresh() (filled bool) {
	nodes := make([]*loadbalance.Node, len(p.ready))
	for i, m := range p.ready {
		nodes[i] = m.node
	}
	view := p.balancer.Reachable(nodes, p.awaited())
	filled = len(p.view.Load().Nodes()) == 0 && len(view.Nodes()) > 0
	p.view.Store(view)
	p.viewed, p.stale = len(nodes)+len(p.fresh), 0
	return filled
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

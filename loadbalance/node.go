package loadbalance

import (
	"maps"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
)

// Node is an endpoint and what is known about it: calls in flight, latency, failures and breaker. It is
// made by a Balancer and lives as long as the endpoint stays in the set. All methods are safe for concurrent
// use.
type Node struct {
	// What a pick reads fills one cache line, and the node two: 128 bytes are allocated on their bounds.
	inflight flights
	cost     ewma
	penalty  penalty
	out      atomic.Int64                       // 0 in service, until when the node is ejected, or one of those below
	inverse  atomic.Uint32                      // float32 bits of 1/weight
	young    atomic.Uint32                      // the tick in which a slow start began, 0 if none is under way
	breaker  atomic.Pointer[resilience.Breaker] // nil if there is none
	owner    *Balancer

	health atomic.Pointer[health] // nil if nothing is ejected or timed
	limit  atomic.Pointer[limit]  // nil if there is none
	// What the node last said, for the picker that goes by it. It is not with the rest of the report, as what a pick looks
	// at should be in one place: the processor fetches the lines of a node together.
	said   atomic.Uint64 // latency, and when; see pack
	excess atomic.Int64  // of its requests in flight over those that this client knew of
	update uint64        // the last one that named the node; guarded by the lock of the balancer
	ep     atomic.Pointer[discovery.Endpoint]

	mu       sync.Mutex // guards writes of attached
	attached atomic.Pointer[[]attachment]
}

// Values of Node.out.
const (
	left  = -1 // the node is no longer in the set
	unfit = -2 // its active health checks fail; nothing else but an operator takes it out of service as well
	// An operator took the node out of service, or lets it drain. What is not above byHand is one of them.
	byHand  = -3
	drained = -4
)

type attachment struct {
	key     any
	value   any
	release func()
}

func (b *Balancer) newNode(ep *discovery.Endpoint) *Node {
	n := &Node{owner: b}
	is := b.setup.Load()
	n.breaker.Store(is.breaker(b))
	if is.outliers != nil || is.locality != nil {
		n.health.Store(&health{})
	}
	if is.limit != nil {
		n.limit.Store(&limit{cfg: is.limit})
	}
	n.set(ep)
	return n
}

// set takes over what the source now says about the endpoint.
func (n *Node) set(ep *discovery.Endpoint) {
	if old := n.ep.Load(); old != nil && alike(old, ep) {
		return // most nodes at most updates
	}
	stored := *ep // the slice of ep stays off the heap
	n.ep.Store(&stored)
	n.inverse.Store(math.Float32bits(1 / float32(max(ep.Weight, 1))))
}

// alike is Equal of endpoints with the same address, with the least to load and to copy.
func alike(a, b *discovery.Endpoint) bool {
	return a.Weight == b.Weight && a.Priority == b.Priority && a.Health == b.Health && a.Zone == b.Zone &&
		len(a.Meta) == len(b.Meta) && (len(a.Meta) == 0 || maps.Equal(a.Meta, b.Meta))
}

// Addr returns the address, the identity of the node.
func (n *Node) Addr() string { return n.ep.Load().Addr }

// Endpoint returns what the source last said about the endpoint. Meta is read-only.
func (n *Node) Endpoint() discovery.Endpoint { return *n.ep.Load() }

// InFlight returns the number of attempts on the node that have not ended.
func (n *Node) InFlight() int { return int(n.inflight.Load()) }

// Cost returns the latency the node is expected to have, by its peak-sensitive moving average, and false
// while nothing is known.
func (n *Node) Cost(now time.Time) (time.Duration, bool) {
	c, ok := n.cost.at(n.since(now))
	return time.Duration(c), ok
}

// Penalized reports whether the node failed a short while ago and is being avoided.
func (n *Node) Penalized(now time.Time) bool { return n.penalty.active(n.since(now)) }

// Breaker returns the circuit breaker of the node, nil if its policy has none. Its times are those of Since.
func (n *Node) Breaker() *resilience.Breaker { return n.breaker.Load() }

// BreakerState returns the state of the circuit breaker of the node, empty if it has none.
func (n *Node) BreakerState(now time.Time) resilience.BreakerState {
	b := n.breaker.Load()
	if b == nil {
		return ""
	}
	return b.State(n.since(now))
}

// OpenUntil returns when the breaker of the node, if it is open, admits an attempt again, and else the zero time.
func (n *Node) OpenUntil() time.Time {
	if b := n.breaker.Load(); b != nil {
		if until := b.OpenUntil(); until > 0 {
			return n.owner.base.Add(until)
		}
	}
	return time.Time{}
}

// Ejected reports whether the node gets no attempts for now, but for one at a time that probes it, because it failed
// more than others; see OutlierConfig.
func (n *Node) Ejected() bool { return n.out.Load() > 0 }

// FailsChecks reports whether the node gets no attempts because its active health checks fail; see Balancer.SetFailing.
func (n *Node) FailsChecks() bool { return n.out.Load() == unfit }

// Available reports whether the node may get an attempt: it is in the set, neither ejected nor failing its checks, and its
// breaker is not open.
func (n *Node) Available(now time.Time) bool { return n.out.Load() == 0 && n.admits(now) }

// plain reports whether nothing but its load speaks against the node.
func (n *Node) plain() bool { return n.out.Load() == 0 && n.breaker.Load() == nil }

// admits reports whether the breaker of the node is not open.
func (n *Node) admits(now time.Time) bool {
	b := n.breaker.Load()
	return b == nil || !b.Open(n.since(now))
}

// Attach returns the value that belongs to the node under key, made by build if there is none yet. It is
// meant for what a transport keeps per node, such as connections: release is called when the node has left
// the set, and again when its last attempt after that has ended; it must not block. build runs under a lock
// of the node.
func (n *Node) Attach(key any, build func() (value any, release func())) any {
	if v, ok := n.find(key); ok {
		return v
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if v, ok := n.find(key); ok {
		return v
	}
	a := attachment{key: key}
	a.value, a.release = build()
	var list []attachment
	if p := n.attached.Load(); p != nil {
		list = *p
	}
	list = append(list[:len(list):len(list)], a)
	n.attached.Store(&list)
	return a.value
}

func (n *Node) find(key any) (any, bool) {
	if p := n.attached.Load(); p != nil {
		for i := range *p {
			if (*p)[i].key == key {
				return (*p)[i].value, true
			}
		}
	}
	return nil, false
}

// leave marks the node as gone from the set, lets go of what hangs on it, and returns the ejection that was under way.
func (n *Node) leave() (out int64) {
	out = n.out.Swap(left)
	n.release()
	return out
}

// gone reports whether the node has left the set.
func (n *Node) gone() bool { return n.out.Load() == left }

func (n *Node) release() {
	if p := n.attached.Load(); p != nil {
		for _, a := range *p {
			a.release()
		}
	}
}

// Since returns a time as the breaker of the node takes it.
func (n *Node) Since(now time.Time) time.Duration { return n.since(now) }

func (n *Node) since(now time.Time) time.Duration { return n.owner.since(now) }

// weighed scales a load by the weight of the endpoint.
func (n *Node) weighed(load float64) float64 {
	return load * float64(math.Float32frombits(n.inverse.Load()))
}

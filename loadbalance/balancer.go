package loadbalance

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
)

var (
	// ErrNoEndpoints says that the set is empty.
	ErrNoEndpoints = errors.New("loadbalance: no endpoints")
	// ErrUnavailable says that every endpoint is rejected by its circuit breaker.
	ErrUnavailable = errors.New("loadbalance: all endpoints rejected by their breakers")
	// ErrNoOther says that no endpoint is left that the call has not tried, where only such a one was wanted.
	ErrNoOther = errors.New("loadbalance: no other endpoint")
)

// Config is the set-up of a Balancer.
type Config struct {
	// Builder is the algorithm. nil means PeakEWMA.
	Builder Builder
	// Breaker gives every node a circuit breaker. nil means none.
	Breaker *resilience.BreakerConfig
	// Rand is the source of random words. It must be safe for concurrent use. nil means math/rand/v2.
	Rand func() uint64
}

// Balancer picks endpoints of one service and keeps their Nodes. Picks take one atomic load of an immutable
// snapshot; updates are serialised by a lock that picks do not see. All methods are safe for concurrent use.
type Balancer struct {
	cfg  Config
	base time.Time
	set  atomic.Pointer[Set]

	mu    sync.Mutex // guards nodes
	nodes map[string]*Node
}

// New returns a Balancer without endpoints.
func New(cfg Config) *Balancer {
	if cfg.Builder == nil {
		cfg.Builder = PeakEWMA
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Uint64
	}
	b := &Balancer{cfg: cfg, base: time.Now(), nodes: map[string]*Node{}}
	b.set.Store(&Set{balancer: b})
	return b
}

// Update replaces the set of endpoints. Addresses that stay keep their Node. A node that is new starts with
// the median cost of the others rather than with none, which would draw all traffic to it. It does not
// keep the slice.
func (b *Balancer) Update(eps []discovery.Endpoint) {
	now := time.Since(b.base)
	b.mu.Lock()
	defer b.mu.Unlock()
	start := b.medianCost(now)
	next := make(map[string]*Node, len(eps))
	list := make([]*Node, 0, len(eps))
	for _, ep := range eps {
		if next[ep.Addr] != nil {
			continue
		}
		n := b.nodes[ep.Addr]
		if n == nil {
			n = b.newNode(ep)
			if start > 0 {
				n.cost.observe(now, start)
			}
		} else {
			n.set(ep)
		}
		next[ep.Addr] = n
		list = append(list, n)
	}
	old := b.nodes
	b.nodes = next
	b.set.Store(b.View(list))
	for addr, n := range old {
		if next[addr] == nil {
			n.leave()
		}
	}
}

// Set returns the present snapshot.
func (b *Balancer) Set() *Set { return b.set.Load() }

// View returns a snapshot that picks from the given nodes of the balancer only, for transports that can reach
// some of them. The slice must not be changed afterwards.
func (b *Balancer) View(nodes []*Node) *Set {
	s := &Set{balancer: b, nodes: nodes}
	if in := inService(nodes); len(in) > 0 {
		s.picker = b.cfg.Builder(in)
		s.picking = in
	}
	return s
}

// Pick picks from the present set; see Set.Pick.
func (b *Balancer) Pick(in Info) (Pick, error) { return b.set.Load().Pick(in) }

func (b *Balancer) medianCost(now time.Duration) time.Duration {
	costs := make([]float64, 0, len(b.nodes))
	for _, n := range b.nodes {
		if c, ok := n.cost.at(now); ok {
			costs = append(costs, c)
		}
	}
	if len(costs) == 0 {
		return 0
	}
	slices.Sort(costs)
	return time.Duration(costs[len(costs)/2])
}

// inService returns the nodes that take traffic: the healthy ones of the first priority level that has any,
// and all nodes if no level has, because a call that may fail is better than one that must.
func inService(nodes []*Node) []*Node {
	best := -1
	for _, n := range nodes {
		if ep := n.ep.Load(); ep.Health == discovery.Healthy && (best < 0 || int(ep.Priority) < best) {
			best = int(ep.Priority)
		}
	}
	if best < 0 {
		return nodes
	}
	in := make([]*Node, 0, len(nodes))
	for _, n := range nodes {
		if ep := n.ep.Load(); ep.Health == discovery.Healthy && int(ep.Priority) == best {
			in = append(in, n)
		}
	}
	return in
}

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

	mu      sync.Mutex // guards what follows and serialises updates
	nodes   map[string]*Node
	updates uint64 // made so far
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
	old := b.set.Load().nodes
	start := medianCost(old, now)
	b.updates++
	list := make([]*Node, 0, len(eps))
	at := 0 // in old, where the next endpoint is looked for first: sets are sorted and change little
	for i := range eps {
		var n *Node
		for skip := range 2 { // one may have left
			if k := at + skip; k < len(old) && old[k].addr == eps[i].Addr {
				n, at = old[k], k+1
				break
			}
		}
		if n == nil {
			n = b.nodes[eps[i].Addr]
		}
		switch {
		case n == nil:
			n = b.newNode(eps[i])
			if start > 0 {
				n.cost.observe(now, start)
			}
			b.nodes[n.addr] = n
		case n.update == b.updates:
			continue // named twice
		default:
			n.set(eps[i])
		}
		n.update = b.updates
		list = append(list, n)
	}
	b.set.Store(b.View(list))
	for _, n := range old {
		if n.update != b.updates {
			delete(b.nodes, n.addr)
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

// medianCost returns the median cost of the nodes, taken from a hundred of them if there are more, and 0 if
// nothing is known.
func medianCost(nodes []*Node, now time.Duration) time.Duration {
	var costs []float64
	for i := 0; i < len(nodes); i += 1 + len(nodes)/100 {
		if c, ok := nodes[i].cost.at(now); ok {
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
	best, count := -1, 0
	for _, n := range nodes {
		if ep := n.ep.Load(); ep.Health == discovery.Healthy {
			if p := int(ep.Priority); best < 0 || p < best {
				best, count = p, 1
			} else if p == best {
				count++
			}
		}
	}
	if count == 0 || count == len(nodes) {
		return nodes
	}
	in := make([]*Node, 0, count)
	for _, n := range nodes {
		if ep := n.ep.Load(); ep.Health == discovery.Healthy && int(ep.Priority) == best {
			in = append(in, n)
		}
	}
	return in
}

package loadbalance

import (
	"errors"
	"math"
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
	// Limit bounds the attempts in flight on every node. nil means that there is no bound.
	Limit *LimitConfig
	// Outlier ejects nodes that fail. nil means that none is.
	Outlier *OutlierConfig
	// SlowStart brings new nodes up to their share of the calls over a while. nil means at once.
	SlowStart *SlowStart
	// Locality prefers endpoints of one zone. The zero value is off.
	Locality Locality
	// Subset is the part of the endpoints that this client keeps to. The zero value is all.
	Subset Subset
	// Panic is the share of the endpoints of a priority that must be in service for ejections and failed checks to count.
	// Below it the few that are left would get more than they can take, and so much failing at once is more often the fault of
	// who judges than of who is judged. 0 means 0.5, which is Envoy's and Finagle's panic threshold; less than 0 means that
	// they always count, as long as one endpoint is in service; the most is 1.
	Panic float64
	// OverProvisioning is how much more than its part of the endpoints the ones in service of a priority are taken to be able
	// to carry before calls spill over to the next priority. 0 means 1.4, Envoy's default; the least is 1, with which they
	// spill at the first one that fails. With 2, half of a priority carries everything.
	OverProvisioning float64
	// Unproven lets new nodes count as failing their active health checks until SetFailing says otherwise.
	Unproven bool
	// Observe is told of events: ejections, changes of breakers, panic and so on, as far as they concern the set of all nodes. It is called
	// by whoever caused the event, in order, one at a time and with no lock held, after the fact: while it is busy others go
	// on, and up to 1,024 events wait for it; of more, later ones are lost and counted in Event.Lost. It may call the Balancer. It
	// must not block, since the result of a call waits for it. nil means that nobody wants to know, and costs nothing.
	Observe func(Event)
	// Rand is the source of random words. It must be safe for concurrent use. nil means math/rand/v2.
	Rand func() uint64
}

// Balancer picks endpoints of one service and keeps their Nodes. Picks take one atomic load of an immutable
// snapshot; updates are serialised by a lock that picks do not see. All methods are safe for concurrent use.
type Balancer struct {
	rand  func() uint64 // nil means math/rand/v2
	base  time.Time     // what times of nodes are measured from
	setup atomic.Pointer[setup]
	// changes counts what makes sets plan anew: ejections, failed checks, returns, and moves of calls between zones.
	changes atomic.Uint64
	checked atomic.Bool  // SetFailing was called, or is to be
	due     atomic.Int64 // when the first endpoint is to return that an operator took out
	set     atomic.Pointer[Set]
	reports atomic.Bool                   // nodes are picked by what they report
	probing atomic.Pointer[PrequalConfig] // how they are asked for that, nil if they are not

	observer atomic.Pointer[func(Event)] // nil if there is none
	news     news

	mu      sync.Mutex // guards what follows and serialises updates; taken before that of outliers
	nodes   map[string]*Node
	others  []discovery.Endpoint // of the last update, that Subset has left out
	absent  absences
	updates uint64    // made so far
	judge   *outliers // of the first Config with Outlier
	takings map[string]*taking
}

// New returns a Balancer without endpoints.
func New(cfg Config) *Balancer {
	b := &Balancer{rand: cfg.Rand, base: time.Now(), nodes: map[string]*Node{}}
	b.setup.Store(b.prepare(cfg, nil))
	b.checked.Store(cfg.Unproven)
	b.due.Store(math.MaxInt64)
	b.observe(cfg.Observe)
	b.set.Store(&Set{balancer: b})
	return b
}

// observe sets the observer.
func (b *Balancer) observe(f func(Event)) {
	if f == nil {
		b.observer.Store(nil)
	} else {
		b.observer.Store(&f)
	}
}

// Update replaces the set of endpoints. Addresses that stay keep their Node. A node that is new starts with
// the median cost of the others rather than with none, which would draw all traffic to it, and one whose address was
// in the set a short while ago with what was known then. It does not keep the slice.
func (b *Balancer) Update(eps []discovery.Endpoint) {
	now := time.Since(b.base)
	defer b.tell(now)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.update(eps, now)
}

// update is Update with the lock held.
func (b *Balancer) update(all []discovery.Endpoint, now time.Duration) {
	is := b.setup.Load()
	eps := is.cfg.Subset.of(all, is.locality.zone())
	b.others = without(all, eps)
	b.absent.expire(now)
	b.returnDue(now)
	old := b.set.Load().nodes
	start := medianCost(old, now)
	b.updates++
	list := make([]*Node, 0, len(eps))
	var passed []*Node // of old, that may have left
	at := 0            // in old, where the next endpoint is looked for first: sets are sorted and change little
	for i := range eps {
		ep := &eps[i]
		var n *Node
		switch {
		case at < len(old) && old[at].Addr() == ep.Addr:
			n = old[at]
			at++
		case at+1 < len(old) && old[at+1].Addr() == ep.Addr: // one may have left
			n, passed = old[at+1], append(passed, old[at])
			at += 2
		default:
			n = b.nodes[ep.Addr]
		}
		switch {
		case n == nil:
			n = b.newNode(ep)
			if !b.absent.resume(n) {
				if start > 0 {
					n.cost.observe(now, start)
				}
				if is.slowStart != nil && len(old) > 0 {
					n.grow(now)
				}
			}
			if is.cfg.Unproven {
				n.out.Store(unfit)
			}
			n.observeBreaker()
			b.nodes[n.Addr()] = n
			if t := b.takings[ep.Addr]; t != nil {
				b.take(n, t)
			}
		case n.update == b.updates:
			continue // named twice
		default:
			n.set(ep)
		}
		n.update = b.updates
		list = append(list, n)
	}
	set := b.View(list)
	set.size = size{len(list) + len(b.others), len(b.others)}
	b.set.Store(set)
	for _, n := range append(passed, old[at:]...) {
		if n.update != b.updates {
			delete(b.nodes, n.Addr())
			out := n.leave()
			if out <= byHand { // which is known by the address
				out = 0
			}
			b.absent.add(n, out, now)
		}
	}
	if is.outliers != nil {
		is.outliers.renew(list, set.healthy(), now)
	}
}

// Set returns the present snapshot.
func (b *Balancer) Set() *Set { return b.set.Load() }

// View returns a snapshot that picks from the given nodes of the balancer only. The slice must not be changed afterwards.
func (b *Balancer) View(nodes []*Node) *Set {
	return b.planned(b.view(nodes))
}

func (b *Balancer) planned(s *Set) *Set {
	if len(s.nodes) > 0 {
		s.replan(nil)
	}
	return s
}

// Reachable is View for transports that can reach some nodes of the balancer only. The others count as out of service, so that
// calls go to the next priority, or leave the zone, as they do when nodes are ejected; but for those in awaited, which may be
// reached in a moment. While the best level of nodes has none that can be reached, and one that is awaited, the snapshot
// is empty: calls had better wait.
func (b *Balancer) Reachable(nodes, awaited []*Node) *Set {
	known := b.set.Load()
	s := b.reachable(nodes, awaited, known.nodes)
	s.known, s.awaited, s.size = known, awaited, known.size
	return s
}

// reachable returns the snapshot of the nodes that can be reached of those that are known.
func (b *Balancer) reachable(nodes, awaited, known []*Node) *Set {
	s := b.view(nodes)
	if len(nodes) == 0 || len(s.levels) == 1 && len(awaited) == 0 {
		return b.planned(s)
	}
	near := s.setup.locality
	coming, _ := count(awaited, near, nil)
	_, all := count(known, near, nil)
	for r, n := range coming[:s.levels[0].rank] {
		if n > 0 && all[r] > 0 {
			return &Set{balancer: b, size: s.size}
		}
	}
	for i := range s.levels {
		l := &s.levels[i]
		l.awaited = coming[l.rank]
		l.missing = max(all[l.rank]-l.all-l.awaited, 0)
	}
	return b.planned(s)
}

// view returns a set without a plan.
func (b *Balancer) view(nodes []*Node) *Set {
	is := b.setup.Load()
	s := &Set{balancer: b, setup: is, nodes: nodes, limited: is.limit != nil}
	if whole := b.set.Load(); whole != nil {
		s.size = whole.size
	}
	if len(nodes) > 0 {
		s.levels = levels(nodes, is.cfg.Builder, is.locality)
		s.banded = slices.ContainsFunc(s.levels, func(l level) bool { return l.band != nil })
		s.chance = chancy(s.levels)
	}
	return s
}

// Pick picks from the present set; see Set.Pick.
func (b *Balancer) Pick(in Info) (Pick, error) { return b.set.Load().pick(&in) }

// random draws a random word.
func (b *Balancer) random() uint64 {
	if b.rand != nil {
		return b.rand()
	}
	return rand.Uint64()
}

func (b *Balancer) since(now time.Time) time.Duration { return now.Sub(b.base) }

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

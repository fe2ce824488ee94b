package loadbalance

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/zerohop/zerohop/resilience"
)

// Set is an immutable snapshot of the nodes of a service, ready to pick from.
type Set struct {
	balancer *Balancer
	setup    *setup  // of the balancer, when the snapshot was made; nil if it is empty
	nodes    []*Node // all of the snapshot
	levels   []level // of those that may take traffic
	plan     atomic.Pointer[plan]
	planning atomic.Bool // by somebody
	banded   bool        // a level has a band
	chance   bool        // picks need a random word
	limited  bool        // nodes have limits
	size     size        // of the service
	// known are those of which nodes are what can be reached, awaited what may be in a moment; nil if that makes no difference.
	known   *Set
	awaited []*Node

	// What only some calls ask for is made when the first one does.
	index      atomic.Pointer[map[uint64]*Node] // by NodeKey
	groupings  atomic.Pointer[[]*grouping]
	algorithms atomic.Pointer[[]algorithmic]
	mu         sync.Mutex // guards subsets and writes of the above
	subsets    []*part    // that have a set, in the order in which they were made
}

// size is how many endpoints a service has, and how many of them Subset leaves out.
type size struct{ all, leftOut int }

// Nodes returns all nodes of the snapshot. The slice is shared and read-only.
func (s *Set) Nodes() []*Node { return s.nodes }

// Tiered reports whether some of the healthy nodes are preferred to others, by priority or zone.
func (s *Set) Tiered() bool { return len(s.levels) > 1 }

// Panicking reports whether so many nodes are ejected or fail their checks that picks take no account of it.
func (s *Set) Panicking() bool {
	p := s.current()
	return p != nil && p.panicking
}

func (s *Set) healthy() (n int) {
	for i := range s.levels {
		n += len(s.levels[i].nodes)
	}
	return n
}

// current returns the plan for the present ejections and bands, nil if there is no node.
func (s *Set) current() *plan {
	p := s.plan.Load()
	if p != nil && p.changes != s.balancer.changes.Load() {
		return s.replan(p)
	}
	return p
}

// Pick chooses a node and counts an attempt on it as in flight until Done of the Pick is called. It returns
// ErrNoEndpoints, ErrUnavailable, ErrLimited or, if in.Other is set, ErrNoOther, or, if in.Strict is set, ErrNoNode.
func (s *Set) Pick(in Info) (Pick, error) { return s.pick(&in) }

// pick does what Pick does. Pick and Done of a Pick only take the address of what they are given, so that compilers put them
// in the place of the call and nothing is copied.
func (s *Set) pick(in *Info) (Pick, error) {
	p := s.current()
	if p == nil {
		s.recordNone(in)
		return Pick{}, ErrNoEndpoints
	}
	if p.taken {
		p = s.expire(p, in)
	}
	if s.chance {
		in.Random = s.balancer.random()
	}
	if in.Choice != nil {
		s.record(in)
	}
	if s.banded && s.measure(s.balancer.since(in.Now)) {
		s.balancer.changes.Add(1)
		s.balancer.tell(s.balancer.since(in.Now))
		p = s.current()
	}
	if in.Node != 0 {
		if pick, err := s.bound(p, in); err == nil || in.Strict {
			return pick, err
		}
	}
	if p.ejected != nil {
		if pick, ok := s.probe(p, in); ok {
			return pick, nil
		}
	}
	n := s.choose(p, in)
	if in.Other && slices.Contains(in.Avoid, n) {
		in.unpicked()
		return Pick{}, ErrNoOther
	}
	if s.limited {
		return s.within(p, in, n)
	}
	b := n.breaker.Load()
	if b == nil {
		return begin(n, in, resilience.Permit{}), nil
	}
	if permit, ok := b.Allow(n.since(in.Now)); ok {
		return begin(n, in, permit), nil
	}
	return s.admitted(p, in, n)
}

// choose asks the picker of a level, and another level if the first has no node that is usable.
func (s *Set) choose(p *plan, in *Info) *Node {
	if len(p.shares) == 1 {
		return s.chooseFrom(&p.shares[0], in)
	}
	return s.chooseFrom(p.draw(s.drawn(in)), in)
}

// drawn returns the random word by which the level is chosen.
func (s *Set) drawn(in *Info) uint64 {
	if in.again {
		return s.more(in)
	}
	r := s.balancer.random()
	if in.Choice != nil {
		in.Choice.Draw = r
	}
	return r
}

// more returns another random word. All but the first two of a pick follow from the first, so that picks can be made again. It
// is nobody's who picks in turn: that draws none unless one is needed.
func (s *Set) more(in *Info) uint64 {
	if !s.chance && !in.again {
		in.Random = s.balancer.random()
		if in.Choice != nil {
			in.Choice.Random = in.Random
		}
	}
	in.again = true
	in.Random = mix(in.Random + golden)
	return in.Random
}

// chooseFrom is choose once the share is known.
func (s *Set) chooseFrom(first *share, in *Info) *Node {
	in.panicking = first.panicking
	from := first.level
	if from.around != nil && len(in.Avoid) > 0 && s.leaves(from, in) {
		from = from.around
	}
	in.level = from.at
	n := pick(from.picker, in)
	if n.young.Load() != 0 && in.Hash == 0 { // or calls of one key would go to and fro
		n = s.older(n, from, in)
	}
	if len(s.levels) > 1 && !in.Usable(n) {
		other := n
		for i := range s.levels {
			if l := &s.levels[i]; l != from {
				in.uncompared()
				if m := pick(l.picker, in); in.Usable(m) {
					in.how, in.level = HowElsewhere, anyLevel
					if in.Choice != nil {
						s.survey(in, first.panicking)
					}
					return m
				} else if m.out.Load() > byHand && other.out.Load() <= byHand {
					other = m
				}
			}
		}
		n = other
	}
	if in.Choice != nil {
		s.settle(in, n)
	}
	return n
}

// leaves decides whether another attempt of a call leaves the zone, as it would if there were none: what one endpoint of the
// zone failed at the next may well fail at, too.
func (s *Set) leaves(zone *level, in *Info) bool {
	return index(mix(in.Random^golden), len(zone.nodes)+len(zone.around.nodes)) >= len(zone.nodes)
}

// older picks again while the pick falls on a node in its slow start that is not yet due so many calls.
func (s *Set) older(n *Node, l *level, in *Info) *Node {
	var was Choice
	for range draws {
		part := n.part(n.since(in.Now))
		if part >= 1 || !in.Usable(n) {
			return n
		}
		word := in.Random
		if float64(s.more(in)>>11) < part*(1<<53) {
			in.Random = word
			return n
		}
		again := *in
		again.Random, again.except = s.more(in), n
		if in.Choice != nil {
			was = *in.Choice
			in.uncompared()
		}
		m := pick(l.picker, &again)
		if !in.Usable(m) {
			if in.Choice != nil {
				*in.Choice = was
			}
			return n
		}
		if in.Choice != nil {
			in.looked(n, Candidate{InFlight: int32(n.inflight.Load()), Removed: WarmingUp}, n.since(in.Now))
		}
		n = m
	}
	return n
}

// probe makes an attempt the probe of a node whose ejection is over, if there is such a node. Attempts of calls that
// have failed before are too dear for that.
func (s *Set) probe(p *plan, in *Info) (Pick, bool) {
	now := s.balancer.since(in.Now)
	if int64(now) < p.wake.Load() || len(in.Avoid) > 0 || in.Other || in.Sound {
		return Pick{}, false
	}
	n, wake := s.setup.outliers.probe(p.ejected, now, in.Random)
	p.wake.Store(wake)
	if n == nil {
		return Pick{}, false
	}
	in.how, in.level = HowProbe, anyLevel
	if in.Choice != nil {
		s.survey(in, false)
	}
	pick, ok := n.claim(in) // if not, the node will be ready for a later probe
	if ok {
		pick.trace |= probing
	} else {
		in.how = HowNone
	}
	return pick, ok
}

// Sound reports whether a node is left that is available, not to be avoided, and has neither failed a short while ago
// nor asked for a pause that is not over. Of large sets it looks at a part.
func (s *Set) Sound(in Info) bool {
	p := s.current()
	if p == nil {
		return false
	}
	in.Sound, in.Random, in.panicking, in.Choice = true, s.balancer.random(), p.panicking, nil
	for i := range s.levels {
		if sound(s.levels[i].nodes, &in) != nil {
			return true
		}
	}
	return false
}

// admitted looks for any node whose breaker and limit admit an attempt, after those of rejected did not: untried nodes
// first, and those out of service after others. Rejections are rare enough for a walk.
func (s *Set) admitted(p *plan, in *Info, rejected *Node) (Pick, error) {
	r := s.more(in)
	full := rejected.full()
	in.how, in.level = HowElsewhere, anyLevel
	if in.Choice != nil {
		in.unpicked()
		s.survey(in, p.panicking)
	}
	for _, round := range []struct{ tried, out bool }{{false, false}, {false, true}, {true, false}, {true, true}} {
		if round.tried && in.Other {
			return Pick{}, ErrNoOther
		}
		for i := range s.levels {
			nodes := s.levels[i].nodes
			start := index(r, len(nodes))
			for k := range nodes {
				n := nodes[(start+k)%len(nodes)]
				if n == rejected || n.out.Load() <= byHand || slices.Contains(in.Avoid, n) != round.tried || (n.out.Load() != 0 && !p.panicking) != round.out {
					continue
				}
				if pick, ok := n.claim(in); ok {
					return pick, nil
				}
				full = full || n.full()
			}
		}
	}
	if full {
		return Pick{}, ErrLimited
	}
	return Pick{}, ErrUnavailable
}

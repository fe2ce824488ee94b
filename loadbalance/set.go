package loadbalance

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

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

// Pick is one attempt on a node. Done must be called exactly once. The zero Pick has no node.
type Pick struct {
	node   *Node
	start  time.Duration // after the base of the node
	permit resilience.Permit
	trace  trace
}

// trace is what a pick leaves behind, in a word that is written at once, or who reads it with another one would wait for both: the upper
// half of the last random word, above the level that the pick was for, above the How, HowNone for what pickers say. There
// is no room for more: calls with another word would be allocated in a larger size.
type trace uint64

func (t trace) how() How     { return How(t) }
func (t trace) level() uint8 { return uint8(t >> 8) }
func (t trace) word() uint64 { return uint64(t) >> 32 << 32 }

// probe reports whether the attempt is that of an ejected node.
func (t trace) probe() bool { return t&probing != 0 }

// probing is set in the trace of a probe.
const probing = 1 << 16

func (in *Info) trace() trace {
	return trace(in.how) | trace(in.level)<<8 | trace(in.Random)&(1<<64-1<<32)
}

func begin(n *Node, in *Info, permit resilience.Permit) Pick {
	n.inflight.pick()
	return started(n, in, permit)
}

// started is what follows when an attempt is counted as in flight.
func started(n *Node, in *Info, permit resilience.Permit) Pick {
	start := n.since(in.Now)
	if in.Choice != nil {
		in.picked(n, start)
	}
	n.penalty.try(start)
	return Pick{node: n, start: start, permit: permit, trace: in.trace()}
}

// Node returns the node that was picked, nil for the zero Pick.
func (p Pick) Node() *Node { return p.node }

// Start returns the time of the pick, zero for the zero Pick.
func (p Pick) Start() time.Time {
	if p.node == nil {
		return time.Time{}
	}
	return p.node.owner.base.Add(p.start)
}

// Report is how an attempt went.
type Report struct {
	// Now is the time of the report. Required.
	Now time.Time
	// Outcome is its class.
	Outcome resilience.Outcome
	// Latency is how long the answer took. For a Neutral outcome it is how long no answer came before the
	// attempt was given up. 0 says that the attempt tells nothing about speed.
	Latency time.Duration
	// Overdue says of a Neutral outcome that the attempt was given up after so long that the endpoint may hang.
	// Picks then avoid it as if it had failed, and it may be ejected; its breaker learns nothing. Of attempts that were under
	// way together one counts for that: whatever they waited for, it was the same.
	Overdue bool
	// Bound is how long the attempt could take at most, 0 if for ever. See LimitConfig.Adaptive.
	Bound time.Duration
	// After is the pause the server asked for, 0 or less if none. More than a minute counts as a minute.
	After time.Duration
}

// Done ends the attempt.
func (p Pick) Done(r Report) { p.done(&r) }

func (p Pick) done(r *Report) {
	n := p.node
	if n == nil {
		return
	}
	start, now := p.start, n.since(r.Now)
	is, h := n.owner.setup.Load(), n.health.Load()
	d := is.outliers
	if d != nil && (r.Outcome == resilience.Failure || r.Overdue) && d.common(now) {
		n.penalty.soften()
	}
	if is.timed && h != nil && r.Outcome != resilience.Success {
		h.bound(r.Latency)
	}
	if is.locality != nil && h != nil && r.Latency > 0 {
		h.toll.add(r.Latency, r.Outcome == resilience.Success)
	}
	var f finding
	switch r.Outcome {
	case resilience.Success:
		if r.Latency > 0 {
			n.cost.observe(now, r.Latency)
			if is.timed && h != nil {
				h.time(r.Latency)
			}
		}
		n.penalty.succeed(start)
		f = good
	case resilience.Failure, resilience.Overload:
		// A slow failure is at least as slow as it was; a fast one says nothing about speed.
		n.cost.raise(now, r.Latency)
		n.penalty.fail(start, now, r.After, n.owner.random())
		f = alive
		if r.Outcome == resilience.Failure {
			f = failed
		}
	default:
		if r.Overdue {
			// Its cost alone keeps nobody away for long: where all attempts are given up, none is in flight,
			// and one on an idle hung endpoint looks cheaper than a third one on a busy good one.
			n.penalty.fail(start, now, 0, n.owner.random())
			f = silent
		}
		if r.Latency > 0 {
			n.cost.raise(now, r.Latency)
		} else {
			n.penalty.drop(start, now)
		}
	}
	if d != nil {
		d.report(n, start, now, f, p.trace.probe())
	}
	p.permit.Done(now, r.Outcome, r.Latency)
	if l := n.limit.Load(); l != nil {
		l.observe(now, r, n.inflight.Load())
	}
	n.end()
}

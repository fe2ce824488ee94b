package loadbalance

import (
	"math"
	"slices"
	"time"
)

// anyLevel stands for picks that are for no level of their own.
const anyLevel = math.MaxUint8

// record begins a record.
func (s *Set) record(in *Info) {
	*in.Choice = Choice{Levels: uint8(min(len(s.levels), anyLevel))}
	if s.chance {
		in.Choice.Random = in.Random
	}
}

// recordNone records that there is no endpoint to pick from.
func (s *Set) recordNone(in *Info) {
	if in.Choice != nil {
		*in.Choice = Choice{}
		s.outside(in.Choice)
	}
}

// settle records what speaks against nodes, when the picker has come to one.
func (s *Set) settle(in *Info, n *Node) {
	if !in.Usable(n) {
		in.how, in.level = HowLastResort, anyLevel
		in.uncompared()
	}
	s.survey(in, in.panicking)
}

// survey counts what speaks against nodes for the pick.
func (s *Set) survey(in *Info, panicking bool) {
	c := in.Choice
	c.Removed, c.Panicking, c.Level = [Removals]int32{}, panicking, 0
	if in.level != anyLevel {
		c.Level = in.level
	}
	s.outside(c)
	c.Removed[NotHealthy] = int32(len(s.nodes) - s.healthy())
	for i := range s.levels {
		l := &s.levels[i]
		if in.level != anyLevel && l.at != in.level {
			c.Removed[OtherLevel] += int32(len(l.nodes))
			continue
		}
		for _, n := range l.nodes {
			c.Removed[in.removal(n, panicking)]++
		}
	}
}

// outside counts the nodes that the set is without.
func (s *Set) outside(c *Choice) {
	known := len(s.nodes)
	if s.known != nil {
		known = len(s.known.nodes)
	}
	// What was made while the set was replaced may not fit.
	c.Nodes = int32(max(s.size.all, s.size.leftOut+known))
	c.Removed[LeftOut] = int32(s.size.leftOut)
	c.Removed[NotSelected] = c.Nodes - int32(s.size.leftOut+known)
	c.Removed[NotConnected] = int32(known - len(s.nodes))
}

// removal returns the first reason that speaks against a node of the level that a pick is for.
func (in *Info) removal(n *Node, panicking bool) Removal {
	switch out := n.out.Load(); {
	case out == left:
		return NotHealthy
	case out <= byHand:
		return OutByHand
	case panicking:
	case out == unfit:
		return OutFailing
	case out > 0:
		return OutEjected
	}
	switch {
	case !n.admits(in.Now):
		return BreakerRejects
	case n.full():
		return AtLimit
	case slices.Contains(in.Avoid, n):
		return Tried
	case in.Sound && n.Penalized(in.Now):
		return UnderPenalty
	}
	return NotRemoved
}

// uncompared forgets what was compared, because it came to nothing.
func (in *Info) uncompared() {
	if c := in.Choice; c != nil {
		clear(c.Compared[:])
		c.N, c.Seen, c.How = 0, 0, HowNone
	}
}

// unpicked records that the node that the picker came to is not taken.
func (in *Info) unpicked() {
	if in.Choice != nil {
		in.Choice.How = HowNone
	}
}

// compared records a node that is compared, given its score, and what was in flight.
func (in *Info) compared(n *Node, x Candidate, now time.Duration) {
	in.Choice.How = HowCompared
	in.looked(n, x, now)
}

// hashed records that the key decides.
func (in *Info) hashed() {
	if in.Choice == nil {
		return
	}
	in.uncompared()
	if in.Hash != 0 {
		in.Choice.How = HowHashed
	}
}

// passed records a node that the key belongs to, and that does not take the call.
func (in *Info) passed(n *Node, now time.Duration) {
	x := Candidate{InFlight: int32(n.inflight.Load()), Removed: in.removal(n, in.panicking)}
	if x.Removed == NotRemoved {
		if x.Removed = Busiest; n.penalty.repeated(now) {
			x.Removed = UnderPenalty
		}
	}
	in.looked(n, x, now)
}

// looked records a node that was looked at. Of more than there is room for the best are kept.
func (in *Info) looked(n *Node, x Candidate, now time.Duration) {
	c := in.Choice
	ep := n.ep.Load()
	for i := range c.Compared[:c.N] {
		if y := &c.Compared[i]; y.Addr == ep.Addr { // looked at twice
			y.Score, y.InFlight, y.Removed = x.Score, x.InFlight, x.Removed
			return
		}
	}
	cost, _ := n.cost.at(now)
	x.Addr, x.Zone, x.Weight, x.Cost = ep.Addr, ep.Zone, ep.Weight, time.Duration(cost)
	c.Seen = min(c.Seen, math.MaxUint8-1) + 1
	if c.N < MaxCompared {
		c.Compared[c.N] = x
		c.N++
		return
	}
	worst := -1
	for i, y := range c.Compared {
		if worst < 0 && y.worse(x) || worst >= 0 && y.worse(c.Compared[worst]) {
			worst = i
		}
	}
	if worst >= 0 {
		copy(c.Compared[worst:], c.Compared[worst+1:])
		c.Compared[MaxCompared-1] = x
	}
}

// worse reports whether x is farther than y from being picked.
func (x Candidate) worse(y Candidate) bool {
	if (x.Removed != NotRemoved) != (y.Removed != NotRemoved) {
		return x.Removed != NotRemoved
	}
	return x.Score > y.Score
}

// picked ends a record: the attempt goes to the node.
func (in *Info) picked(n *Node, now time.Duration) {
	c := in.Choice
	switch {
	case in.how != HowNone:
		c.How = in.how
	case c.How == HowNone:
		c.How = HowDrawn
	}
	c.mark(n, now, true)
}

// mark marks the node that was picked among the others. counted says that it counts the attempt already.
func (c *Choice) mark(n *Node, now time.Duration, counted bool) {
	addr := n.Addr()
	for i := range c.Compared[:min(c.N, MaxCompared)] {
		if x := &c.Compared[i]; x.Addr == addr {
			x.Picked = true
			return
		}
	}
	ep := n.ep.Load()
	cost, _ := n.cost.at(now)
	before := n.inflight.Load()
	if counted {
		before = max(before-1, 0)
	}
	x := Candidate{Addr: ep.Addr, Zone: ep.Zone, Weight: ep.Weight, Cost: time.Duration(cost), InFlight: int32(before), Picked: true}
	c.N = min(c.N, MaxCompared-1)
	c.Compared[c.N] = x
	c.N++
}

// Look fills a Choice for a pick that was not recorded, made from the set or one like it: the zero Pick for one that failed. in
// is what was picked by, with Now as the time of the look, and open says that the Pick is not Done. It tells what speaks against endpoints
// now, and by the random word that the pick left behind which endpoints were compared, with the scores that they have now, but for the
// attempt itself. Choice.Draw stays 0, and Choice.Random is not complete. Endpoints that Prequal or more than two choices of
// LeastRequest compared are not known any more. It takes time in proportion to the number of endpoints.
func (s *Set) Look(in Info, p Pick, open bool, c *Choice) {
	in.Choice, in.level, in.panicking = c, anyLevel, false
	*c = Choice{Levels: uint8(min(len(s.levels), anyLevel))}
	plan := s.current()
	if plan == nil {
		s.outside(c)
		return
	}
	in.panicking = plan.panicking
	if p.node != nil && int(p.trace.level()) < len(s.levels) {
		in.level = p.trace.level()
	}
	s.survey(&in, plan.panicking)
	if p.node == nil {
		return
	}
	now := s.balancer.since(in.Now)
	c.Random = p.trace.word()
	if in.level != anyLevel {
		in.seen(s.levels[in.level].picker, p.node, open, now)
	}
	switch {
	case p.trace.how() != HowNone:
		c.How = p.trace.how()
	case slices.Contains(in.Avoid, p.node):
		c.How = HowLastResort
	case c.How == HowNone:
		c.How = HowDrawn
	}
	c.mark(p.node, now, open)
}

// seen finds out how the picker came to a node, as far as that is still known.
func (in *Info) seen(p Picker, n *Node, open bool, now time.Duration) {
	switch p := p.(type) {
	case *twoChoices:
		if len(p.nodes) == 1 {
			return
		}
		i, j := pair(in.Choice.Random, len(p.nodes))
		if a, b := p.nodes[i], p.nodes[j]; a == n || b == n {
			x, y := p.rate(a, b, now)
			for k, c := range []*Candidate{&x, &y} {
				if m := []*Node{a, b}[k]; m == n {
					c.Removed = NotRemoved
					if open && c.InFlight > 0 { // scores are in proportion to what is in flight with one more
						c.Score *= float64(c.InFlight) / float64(c.InFlight+1)
						c.InFlight--
					}
				} else if r := in.removal(m, in.panicking); r != NotRemoved {
					c.Removed = r
				}
			}
			in.compared(a, x, now)
			in.compared(b, y, now)
		}
	case *moreChoices, *anyChoices, *prequal:
		in.Choice.How = HowCompared
	case *circle, *rendezvous:
		in.hashed()
	}
}

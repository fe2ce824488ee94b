package loadbalance

import "time"

// unknownCost is what a node is taken to cost before anything is known about it or its siblings: Linkerd's
// default round-trip time.
const unknownCost = 30 * time.Millisecond

// penaltyLoad is what a failure a moment ago counts where only calls in flight are compared: more than a
// healthy node ever has waiting, yet little enough that load is still levelled when every node fails.
const penaltyLoad = 100

// PeakEWMA picks the better of two distinct random nodes by expected latency times calls in flight, with
// latency a peak-sensitive moving average (Finagle, Linkerd). A node that failed a moment ago is taken to cost five
// seconds, and one that failed again when it was tried is picked only if no other is found, so that failing
// fast attracts no traffic. It is the default.
//
// The power of two choices: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001.
func PeakEWMA(nodes []*Node) Picker { return &twoChoices{nodes: nodes, costs: true} }

// LeastRequest picks the one with fewer calls in flight of two distinct random nodes. Use it when latency
// tells nothing about load, for example when calls differ a thousandfold in cost. It treats nodes that failed a
// moment ago as PeakEWMA does.
func LeastRequest(nodes []*Node) Picker { return &twoChoices{nodes: nodes} }

// LeastRequestConfig is the set-up of LeastRequest.
type LeastRequestConfig struct {
	// Choices is how many nodes are compared, choice_count of Envoy and choiceCount of gRPC (gRFC A48). More even out
	// load a little better where this client makes most of it, and flock to the same nodes where many clients do. Below 2
	// means 2, more than 10 means 10, as in gRPC. The first two are distinct.
	Choices int
	// Replacement lets each choice fall on any node, also one that was drawn before, as in Envoy and gRPC. A node then
	// wins against itself now and then: the busier one of two gets a quarter of the calls, and a node that never answers
	// one of n*n.
	Replacement bool
}

// LeastRequest is the algorithm LeastRequest with the settings of c. It is a Builder.
func (c LeastRequestConfig) LeastRequest(nodes []*Node) Picker {
	two := twoChoices{nodes: nodes}
	if c.Replacement {
		return &anyChoices{two, min(max(c.Choices, 2), 10)}
	}
	if c.Choices <= 2 || len(nodes) <= 2 {
		return &two
	}
	return &moreChoices{two, min(c.Choices, 10) - 2}
}

type moreChoices struct {
	twoChoices
	more int
}

func (p *moreChoices) Pick(in Info) *Node { return p.pick(&in) }

func (p *moreChoices) pick(in *Info) *Node {
	n := p.twoChoices.pick(in)
	now := n.since(in.Now)
	for range p.more {
		in.Random = next(in.Random)
		if m := p.nodes[index(in.Random, len(p.nodes))]; in.Usable(m) {
			if in.Choice != nil {
				p.note(in, m, now)
			}
			n = p.better(n, m, now)
		}
	}
	return n
}

// anyChoices draws with replacement.
type anyChoices struct {
	twoChoices
	choices int
}

func (p *anyChoices) Pick(in Info) *Node { return p.pick(&in) }

func (p *anyChoices) pick(in *Info) *Node {
	var n *Node
	now := p.nodes[0].since(in.Now)
	for range p.choices {
		m := p.nodes[index(in.Random, len(p.nodes))]
		in.Random = next(in.Random)
		if !in.Usable(m) {
			continue
		}
		if in.Choice != nil {
			p.note(in, m, now)
		}
		if n == nil {
			n = m
		} else {
			n = p.better(n, m, now)
		}
	}
	if n == nil || n.penalty.repeated(now) { // there may be others
		return p.twoChoices.pick(in)
	}
	return n
}

type twoChoices struct {
	nodes []*Node
	costs bool // compared, or else loads
}

func (p *twoChoices) Pick(in Info) *Node { return p.pick(&in) }

func (p *twoChoices) pick(in *Info) *Node {
	if len(p.nodes) == 1 {
		return p.nodes[0]
	}
	if in.easy() {
		i, j := pair(in.Random, len(p.nodes))
		a, b := p.nodes[i], p.nodes[j]
		if a.plain() && b.plain() && a.penalty.until.Load()|b.penalty.until.Load() == 0 {
			if p.sooner(b, a) {
				a = b
			}
			return a
		}
	}
	return p.search(in)
}

// search is pick where more than load speaks against nodes.
func (p *twoChoices) search(in *Info) *Node {
	for range draws {
		i, j := pair(in.Random, len(p.nodes))
		if a, b := p.nodes[i], p.nodes[j]; in.Usable(a) && in.Usable(b) {
			// Two that fail are no choice: where most do, most pairs are such.
			now := a.since(in.Now)
			if n := p.judge(in, a, b, now); !n.penalty.repeated(now) {
				return n
			}
		}
		in.Random = next(in.Random)
	}
	in.uncompared()
	if n := sound(p.nodes, in); n != nil {
		return n
	}
	switch a, b := walk(p.nodes, in); {
	case a == nil:
		return lastResort(p.nodes, in)
	case b == nil:
		return a
	default:
		return p.judge(in, a, b, a.since(in.Now))
	}
}

// judge is better, with a record of what was compared if there is to be one.
func (p *twoChoices) judge(in *Info, a, b *Node, now time.Duration) *Node {
	if in.Choice == nil {
		return p.better(a, b, now)
	}
	in.uncompared()
	x, y := p.rate(a, b, now)
	in.compared(a, x, now)
	in.compared(b, y, now)
	failsA, failsB := x.Removed != NotRemoved, y.Removed != NotRemoved
	if failsA && !failsB || failsA == failsB && y.Score < x.Score {
		return b
	}
	return a
}

// better returns the one of two nodes that does not keep failing, or else the one with less to expect. By load alone,
// a node that fails fast would be the better one as soon as others are busy enough.
func (p *twoChoices) better(a, b *Node, now time.Duration) *Node {
	failsA, failsB := a.penalty.repeated(now), b.penalty.repeated(now)
	if failsA && !failsB || failsA == failsB && p.less(b, a, now) {
		return b
	}
	return a
}

func (p *twoChoices) less(a, b *Node, now time.Duration) bool {
	if p.costs {
		return cheaper(a, b, now)
	}
	return idler(a, b, now)
}

// sooner is less for nodes under no penalty, as nearly all are.
func (p *twoChoices) sooner(a, b *Node) bool {
	loadA, loadB := a.weighed(float64(a.inflight.Load()+1)), b.weighed(float64(b.inflight.Load()+1))
	if p.costs {
		wordA, wordB := a.cost.bits.Load(), b.cost.bits.Load()
		if wordA != 0 && wordB != 0 { // else what is unknown counts as much as what is known
			costA, tickA := unpack(wordA)
			costB, tickB := unpack(wordB)
			// What both have lost since the later of their samples makes no difference.
			loadA, loadB = loadA*costA*decayed(tickB-tickA), loadB*costB
		}
	}
	return loadA < loadB
}

// rate returns what less compares of two nodes, and whether they keep failing.
func (p *twoChoices) rate(a, b *Node, now time.Duration) (x, y Candidate) {
	costA, costB := costs(a, b, now)
	rate := func(n *Node, cost float64) Candidate {
		inflight := n.inflight.Load()
		c := Candidate{InFlight: int32(inflight)}
		if p.costs {
			c.Score = n.expected(cost, inflight, now) / float64(time.Second)
		} else {
			c.Score = n.waiting(inflight, now)
		}
		if n.penalty.repeated(now) {
			c.Removed = UnderPenalty
		}
		return c
	}
	return rate(a, costA), rate(b, costB)
}

// note records one of more than two that are compared.
func (p *twoChoices) note(in *Info, n *Node, now time.Duration) {
	c, _ := p.rate(n, n, now)
	in.compared(n, c, now)
}

// cheaper reports whether a is expected to answer sooner than b. A node that nothing is known of is taken to cost
// what the other does: with a guess in its place, it would get everything or nothing wherever the guess is wrong.
func cheaper(a, b *Node, now time.Duration) bool {
	costA, costB := costs(a, b, now)
	return a.expected(costA, a.inflight.Load(), now) < b.expected(costB, b.inflight.Load(), now)
}

func costs(a, b *Node, now time.Duration) (costA, costB float64) {
	costA, knownA := a.cost.at(now)
	costB, knownB := b.cost.at(now)
	if !knownA {
		costA = costB
	}
	if !knownB {
		costB = costA
	}
	if !knownA && !knownB {
		costA, costB = float64(unknownCost), float64(unknownCost)
	}
	return costA, costB
}

// expected is the load of a node that costs so much, with so many attempts in flight.
func (n *Node) expected(cost float64, inflight int64, now time.Duration) float64 {
	if n.penalty.active(now) {
		cost = max(cost, float64(penaltyCost))
	}
	return n.weighed(cost * float64(inflight+1))
}

// idler reports whether a has less to do than b.
func idler(a, b *Node, now time.Duration) bool {
	return a.waiting(a.inflight.Load(), now) < b.waiting(b.inflight.Load(), now)
}

func (n *Node) waiting(inflight int64, now time.Duration) float64 {
	load := inflight + 1
	if n.penalty.active(now) {
		load += penaltyLoad
	}
	return n.weighed(float64(load))
}

package loadbalance

import "time"

// unknownCost is what a node is taken to cost before anything is known about it or its siblings: Linkerd's
// default round-trip time.
const unknownCost = 30 * time.Millisecond

// penaltyLoad is what a failure a moment ago counts where only calls in flight are compared: more than a
// healthy node ever has waiting, yet little enough that load is still levelled when every node fails.
const penaltyLoad = 100

// PeakEWMA picks the better of two distinct random nodes by expected latency times calls in flight, with
// latency a peak-sensitive moving average (Finagle, Linkerd). A node that failed a moment ago is taken to cost
// five seconds, so that failing fast attracts no traffic. It is the default.
//
// The power of two choices: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001.
func PeakEWMA(nodes []*Node) Picker { return &twoChoices{nodes: nodes, load: peakEWMA} }

// LeastRequest picks the one with fewer calls in flight of two distinct random nodes. Use it when latency
// tells nothing about load, for example when calls differ a thousandfold in cost. A node that failed a moment
// ago is taken to have a hundred calls more.
func LeastRequest(nodes []*Node) Picker { return &twoChoices{nodes: nodes, load: leastRequest} }

type twoChoices struct {
	nodes []*Node
	load  func(n *Node, now time.Duration) float64
}

func (p *twoChoices) Pick(in Info) *Node {
	if len(p.nodes) == 1 {
		return p.nodes[0]
	}
	for range draws {
		i, j := pair(in.Random, len(p.nodes))
		if a, b := p.nodes[i], p.nodes[j]; in.Usable(a) && in.Usable(b) {
			return p.better(a, b, in.Now)
		}
		in.Random = next(in.Random)
	}
	switch a, b := walk(p.nodes, &in); {
	case a == nil:
		return lastResort(p.nodes, &in)
	case b == nil:
		return a
	default:
		return p.better(a, b, in.Now)
	}
}

func (p *twoChoices) better(a, b *Node, now time.Time) *Node {
	if t := a.since(now); p.load(b, t) < p.load(a, t) {
		return b
	}
	return a
}

func peakEWMA(n *Node, now time.Duration) float64 {
	cost, ok := n.cost.at(now)
	if !ok {
		cost = float64(unknownCost)
	}
	if n.penalty.active(now) {
		cost = max(cost, float64(penaltyCost))
	}
	return n.weighed(cost * float64(n.inflight.Load()+1))
}

func leastRequest(n *Node, now time.Duration) float64 {
	load := n.inflight.Load() + 1
	if n.penalty.active(now) {
		load += penaltyLoad
	}
	return n.weighed(float64(load))
}

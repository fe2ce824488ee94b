package loadbalance

import "time"

// unknownCost is what a node is taken to cost before anything is known about it or its siblings: Linkerd's
// default round-trip time.
const unknownCost = 30 * time.Millisecond

// PeakEWMA picks the better of two distinct random nodes by expected latency times calls in flight, with
// latency a peak-sensitive moving average (Finagle, Linkerd). A node that failed a moment ago is taken to cost
// five seconds, so that failing fast attracts no traffic. It is the default.
//
// The power of two choices: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001.
func PeakEWMA(nodes []*Node) Picker { return &twoChoices{nodes: nodes, load: peakEWMA} }

// LeastRequest picks the one with fewer calls in flight of two distinct random nodes. Use it when latency
// tells nothing about load, for example when calls differ a thousandfold in cost.
func LeastRequest(nodes []*Node) Picker { return &twoChoices{nodes: nodes, load: leastRequest} }

type twoChoices struct {
	nodes []*Node
	load  func(n *Node, now time.Time) float64
}

func (p *twoChoices) Pick(in Info) *Node {
	if len(p.nodes) == 1 {
		return p.nodes[0]
	}
	i, j := pair(in.Random, len(p.nodes))
	a, b := p.nodes[i], p.nodes[j]
	if !in.Usable(a) || !in.Usable(b) {
		if a, b = walk(p.nodes, &in); a == nil {
			return lastResort(p.nodes, &in)
		} else if b == nil {
			return a
		}
	}
	if p.load(b, in.Now) < p.load(a, in.Now) {
		return b
	}
	return a
}

func peakEWMA(n *Node, now time.Time) float64 {
	t := n.since(now)
	cost, ok := n.cost.at(t)
	if !ok {
		cost = float64(unknownCost)
	}
	if n.penalty.active(t) {
		cost = max(cost, float64(penaltyCost))
	}
	return n.weighed(cost * float64(n.inflight.Load()+1))
}

func leastRequest(n *Node, _ time.Time) float64 {
	return n.weighed(float64(n.inflight.Load() + 1))
}

package loadbalance

import (
	"math"
	"slices"
)

// Rendezvous keeps calls of the same key on the same node: every node has a score for the key, and the highest wins. When
// a node leaves only its keys move, evenly to all others; shares follow the weights exactly; and there is no table to
// build. It is the best way to hash up to a thousand nodes: a pick takes about a nanosecond for each node. See
// HashConfig for the bound of the load.
//
// D. G. Thaler, C. V. Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998; weights by exponential
// variates as in C. Schindelhauer, G. Schomaker, "Weighted Distributed Hash Tables", 2005.
func Rendezvous(nodes []*Node) Picker { return HashConfig{}.Rendezvous(nodes) }

// Rendezvous is the algorithm Rendezvous with the settings of c.
func (c HashConfig) Rendezvous(nodes []*Node) Picker {
	p := &rendezvous{bound: c.bound(nodes), seeds: make([]uint64, len(nodes))}
	for i, n := range nodes {
		p.seeds[i] = xxh64(n.Addr(), 0)
	}
	if !equalWeights(nodes) {
		p.means = make([]float64, len(nodes))
		for i, n := range nodes {
			p.means[i] = 1 / float64(weight(n))
		}
	}
	return p
}

type rendezvous struct {
	bound
	seeds []uint64  // one for each node
	means []float64 // 1/weight; nil if all weights are equal
}

func (p *rendezvous) Pick(in Info) *Node { return p.pick(&in) }

func (p *rendezvous) pick(in *Info) *Node {
	hash := in.hash()
	in.hashed()
	var n *Node
	if p.means == nil {
		n = p.highest(hash, in)
	} else {
		n = p.earliest(hash, in)
	}
	if n == nil {
		n = p.least(hash, in, p.nodes[0].since(in.Now))
	}
	if in.Choice != nil {
		p.record(hash, n, in)
	}
	return n
}

// record records the nodes that come before the chosen one in the order of the hash, and do not take the call.
func (p *rendezvous) record(hash uint64, chosen *Node, in *Info) {
	now := p.nodes[0].since(in.Now)
	time := func(i int) float64 {
		u := (float64(mix(hash^p.seeds[i])>>11) + 0.5) / (1 << 53)
		if p.means == nil {
			return 1 - u
		}
		return -math.Log(u) * p.means[i]
	}
	at := time(slices.Index(p.nodes, chosen))
	for i, n := range p.nodes {
		if time(i) < at {
			in.passed(n, now)
		}
	}
}

// highest returns the node with the highest score of those that take the call, nil if none does. Only those that would
// win are asked, a few in each pick.
func (p *rendezvous) highest(hash uint64, in *Info) (chosen *Node) {
	now := p.nodes[0].since(in.Now)
	var a allowance
	var best uint64
	for i, seed := range p.seeds {
		if score := mix(hash ^ seed); score >= best && p.takes(p.nodes[i], hash, &a, in, now) {
			best, chosen = score, p.nodes[i]
		}
	}
	return chosen
}

// earliest is highest for nodes of different weights. Scores become times that are exponentially distributed with
// the weights as rates, since the first of such is each with the probability of its share of the rates.
func (p *rendezvous) earliest(hash uint64, in *Info) (chosen *Node) {
	now := p.nodes[0].since(in.Now)
	var a allowance
	best := math.Inf(1)
	for i, seed := range p.seeds {
		u := (float64(mix(hash^seed)>>11) + 0.5) / (1 << 53)
		if (1-u)*p.means[i] >= best { // -log(u) is no less than 1-u, and dear
			continue
		}
		if t := -math.Log(u) * p.means[i]; t < best && p.takes(p.nodes[i], hash, &a, in, now) {
			best, chosen = t, p.nodes[i]
		}
	}
	return chosen
}

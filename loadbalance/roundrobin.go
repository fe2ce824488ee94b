package loadbalance

import (
	"math/rand/v2"
	"sync/atomic"
)

// WeightedRoundRobin takes the nodes in turn, each as often as its weight says. With equal weights it is
// plain round robin. It starts at a random place, so that clients that start together do not move together.
//
// The schedule is a static stride: turn after turn walks over all nodes, and a node of weight w sits out
// all but w of every maximum-weight turns, evenly spread. One shared counter is all its state.
func WeightedRoundRobin(nodes []*Node) Picker {
	p := &roundRobin{nodes: nodes}
	if !equalWeights(nodes) {
		p.strides = strides(nodes)
	}
	p.next.Store(rand.Uint64() >> 16)
	return p
}

type roundRobin struct {
	nodes   []*Node
	strides []uint64 // weights scaled so that the largest is maxStride; nil if all are equal
	next    atomic.Uint64
}

// maxStride is fine enough for weights of 1 to 65,535, and small enough that a turn count times a stride
// overflows only after 2^48 turns.
const maxStride = 1<<16 - 1

func (p *roundRobin) Pick(in Info) *Node {
	n := uint64(len(p.nodes))
	if p.strides == nil {
		if node := p.nodes[p.next.Add(1)%n]; in.Usable(node) {
			return node
		}
		return p.skip(in)
	}
	for {
		k := p.next.Add(1)
		i, turn := k%n, k/n
		if p.due(i, turn) {
			if node := p.nodes[i]; in.Usable(node) {
				return node
			}
			return p.skip(in)
		}
	}
}

// skip finds the next usable node in the order of the schedule.
func (p *roundRobin) skip(in Info) *Node {
	n := uint64(len(p.nodes))
	for range p.nodes {
		k := p.next.Add(1)
		if p.strides != nil && !p.due(k%n, k/n) {
			continue
		}
		if node := p.nodes[k%n]; in.Usable(node) {
			return node
		}
	}
	return firstUsable(p.nodes, &in)
}

// due reports whether node i takes part in a turn. Over maxStride turns it does strides[i] times: whenever
// the accumulated stride passes a multiple of maxStride. The offset spreads nodes of one weight.
func (p *roundRobin) due(i, turn uint64) bool {
	s := p.strides[i]
	return (s*turn+i*(maxStride/2))%maxStride+s >= maxStride
}

func strides(nodes []*Node) []uint64 {
	var largest uint64
	for _, n := range nodes {
		largest = max(largest, uint64(weight(n)))
	}
	s := make([]uint64, len(nodes))
	for i, n := range nodes {
		s[i] = max(1, (uint64(weight(n))*maxStride+largest/2)/largest)
	}
	return s
}

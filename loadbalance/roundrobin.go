package loadbalance

import (
	"math/bits"
	"slices"
	"sync/atomic"
)

// WeightedRoundRobin takes the nodes in turn, each as often as its weight says. With equal weights it is
// plain round robin. It starts at a random place, so that clients that start together do not move together.
//
// With unequal weights the nodes share the circle of 64-bit numbers by weight, and every pick moves on by the
// golden section of it. Such a walk visits each node's part at nearly even distances, whatever its size (the
// three-distance theorem), and, unlike schedules that go through the nodes, a pick takes no longer when one
// weight is a million times another. One shared counter is all its state.
func WeightedRoundRobin(nodes []*Node) Picker {
	p := &roundRobin{nodes: nodes}
	if !equalWeights(nodes) {
		p.ends = ends(nodes)
		p.shift = 64 - bits.Len(uint(len(nodes)))
		p.begins = begins(p.ends, p.shift)
	}
	p.next.Store(nodes[0].owner.random() >> 16) // room for 2^64 picks less a few
	return p
}

type roundRobin struct {
	nodes []*Node
	ends  []uint64 // last number of each node's part of the circle; nil if all weights are equal
	// The first node whose part of the circle ends at or after each of about as many even sections of it, which begin
	// where the bits from shift on change: hardly any has many ends.
	begins []uint32
	shift  int
	next   atomic.Uint64
}

// golden is 2^64 divided by the golden ratio.
const golden = 0x9e3779b97f4a7c15

func (p *roundRobin) Pick(in Info) *Node { return p.pick(&in) }

func (p *roundRobin) pick(in *Info) *Node {
	for range p.nodes {
		k := p.next.Add(1)
		var n *Node
		if p.ends == nil {
			n = p.nodes[k%uint64(len(p.nodes))]
		} else {
			n = p.nodes[p.at(k*golden)]
		}
		if in.Usable(n) {
			return n
		}
	}
	in.Random = mix(p.next.Load())
	return firstUsable(p.nodes, in)
}

// at returns the node to whose part of the circle the number belongs.
func (p *roundRobin) at(x uint64) int {
	section := x >> p.shift
	first, end := p.begins[section], p.begins[section+1]
	i, _ := slices.BinarySearch(p.ends[first:end], x)
	return int(first) + i
}

func begins(ends []uint64, shift int) []uint32 {
	list := make([]uint32, 1<<(64-shift)+1)
	i := 0
	for section := range list {
		for i < len(ends) && ends[i]>>shift < uint64(section) {
			i++
		}
		list[section] = uint32(i)
	}
	return list
}

func ends(nodes []*Node) []uint64 {
	var sum, upTo uint64 // of at most 2^32 nodes of weights below 2^32
	for _, n := range nodes {
		sum += uint64(weight(n))
	}
	list := make([]uint64, len(nodes))
	for i, n := range nodes {
		upTo += uint64(weight(n))
		if list[i] = 1<<64 - 1; upTo < sum {
			list[i], _ = bits.Div64(upTo, 0, sum) // 2^64 * upTo/sum
			list[i]--
		}
	}
	return list
}

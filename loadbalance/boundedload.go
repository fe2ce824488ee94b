package loadbalance

import (
	"math"
	"time"
)

// HashConfig is the set-up of the algorithms that send calls of the same key to the same node. Each of its methods is a
// Builder.
//
// A call goes to the first node in the order of its hash that is usable, does not keep failing, and has not more than
// its bound of calls in flight: so no key, and nobody who chooses keys, overloads a node while others idle. Where all
// are at their bound or fail, it goes to the one with the fewest in flight. Calls without a hash go to a random node.
type HashConfig struct {
	// Bound is how many times the mean of calls in flight, by weight, a node may have. A lower one evens out the load, a
	// higher one moves fewer keys away from where they belong. 0 means 1.25; at most 1, and NaN, mean that, too; +Inf
	// means no bound. The mean of more than 128 nodes is an estimate from 128 of them where that tells enough, and that of
	// more than 1,024 one from so many, 2 % off as a rule.
	//
	// V. Mirrokni, M. Thorup, M. Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2018.
	Bound float64
	// MinRing and MaxRing, where either is set, make Ring the ring of Envoy and gRPC with minimum_ring_size and
	// maximum_ring_size: 0 then means 1,024 and 8,388,608, which is Envoy's (gRPC caps both at 4,096). No set has fewer
	// points than nodes nor more than 8,388,608.
	MinRing, MaxRing int
	// Table is the least number of places of Maglev's table. The larger it is, the fewer keys of other nodes move when a
	// node leaves (0.6 % of all at 65,537, 0.2 % at 655,373), and the longer it takes to fill at every update (3 and 30
	// ms). 0 means 65,537, as in Envoy; sets of more than 13,000 nodes get 5 for each node; no table has more than
	// 5,000,011.
	Table int
}

const defaultBound = 1.25

// sampled is how many nodes the mean is taken from at first: few enough that the cost of a pick does not grow with the set.
// counted is from how many it is taken where that leaves open whether a node is full, which is what somebody who chooses
// keys would make use of: it takes up to ten microseconds. With a tenth of either the mean would be off by more than the bound leaves
// room for.
const (
	sampled = 128
	counted = 1024
)

// bound keeps the nodes of a set from more than their share of the calls in flight.
type bound struct {
	nodes  []*Node
	factor float64
}

func (c HashConfig) bound(nodes []*Node) bound {
	if !(c.Bound > 1) {
		c.Bound = defaultBound
	}
	return bound{nodes: nodes, factor: c.Bound}
}

// allowance is how many calls in flight, with the present one, a node of weight 1 may have. The zero value is not worked out yet.
type allowance struct {
	limit float64
	doubt float64 // the part of it by which it may be wrong
}

// full reports whether the node has its share of the calls in flight. The allowance is worked out when it is first needed: most
// nodes of most services are idle.
func (b *bound) full(n *Node, hash uint64, a *allowance, in *Info, now time.Duration) bool {
	inflight := n.inflight.Load()
	if inflight <= 0 {
		return false
	}
	if a.limit == 0 {
		*a = b.allowance(sampled, hash, in, now)
	}
	load := n.weighed(float64(inflight))
	if math.Abs(load-a.limit) < a.doubt*a.limit {
		*a = b.allowance(counted, hash, in, now)
		a.doubt = 0
	}
	return load >= a.limit
}

// allowance works it out from the given number of nodes at most. Nodes that take no calls do not lower the mean, or all
// others could be above it. The hash chooses the sample: were it another one at each pick, a key in demand would try until
// it finds one that is too high.
func (b *bound) allowance(count int, hash uint64, in *Info, now time.Duration) allowance {
	if math.IsInf(b.factor, 1) {
		return allowance{limit: b.factor}
	}
	n := len(b.nodes)
	count = min(n, count)
	start := index(mix(hash), n)
	var load, squares, weights float64
	step := uint64(n) << 32 / uint64(count) // at even distances: neighbours in the list are often alike
	for k := range uint64(count) {
		i := start + int(k*step>>32)
		if i >= n {
			i -= n
		}
		if node := b.nodes[i]; in.Usable(node) && !node.penalty.repeated(now) {
			inflight := float64(node.inflight.Load())
			load += inflight
			squares += inflight * inflight
			weights += 1 / node.weighed(1)
		}
	}
	if weights == 0 {
		return allowance{limit: math.Inf(1)}
	}
	a := allowance{limit: b.factor * (load + float64(count)/float64(n)) / weights}
	if count < n { // four standard errors, by the sample or that of a count, whichever is more
		a.doubt = 4 * math.Sqrt(max(squares-load*load/float64(count), load)+1) / (load + 1)
	}
	return a
}

// takes reports whether a call may go to the node.
func (b *bound) takes(n *Node, hash uint64, a *allowance, in *Info, now time.Duration) bool {
	return in.Usable(n) && !n.penalty.repeated(now) && !b.full(n, hash, a, in, now)
}

// least is the way out where no node takes the call: it returns the usable node with the least load that does not keep
// failing, or else that does, the first of equals from a place that the hash determines on.
func (b *bound) least(hash uint64, in *Info, now time.Duration) *Node {
	var chosen *Node
	lowest := math.Inf(1)
	start := index(hash, len(b.nodes))
	for k := range b.nodes {
		i := start + k
		if i >= len(b.nodes) {
			i -= len(b.nodes)
		}
		n := b.nodes[i]
		if !in.Usable(n) {
			continue
		}
		load := n.weighed(float64(n.inflight.Load() + 1))
		if n.penalty.repeated(now) {
			load += math.MaxUint32 // above every load
		}
		if load < lowest {
			lowest, chosen = load, n
		}
	}
	if chosen == nil {
		return lastResort(b.nodes, in)
	}
	return chosen
}

package loadbalance

import "math/bits"

// Random picks at random, in proportion to the weights. It needs no knowledge and shares no state, and it
// neither avoids slow nodes nor evens out load.
//
// Weighted draws take constant time by the alias method: M. D. Vose, "A linear algorithm for generating random
// numbers with a given distribution", 1991.
func Random(nodes []*Node) Picker {
	p := &random{nodes: nodes}
	if !equalWeights(nodes) {
		p.columns = aliasTable(nodes)
	}
	return p
}

type random struct {
	nodes   []*Node
	columns []column // nil if all weights are equal
}

// column is one column of an alias table: a draw that falls on it takes its own node with probability
// share/2^64, and the alias otherwise.
type column struct {
	share uint64
	alias int
}

func (p *random) Pick(in Info) *Node { return p.pick(&in) }

func (p *random) pick(in *Info) *Node {
	for range draws {
		hi, lo := bits.Mul64(in.Random, uint64(len(p.nodes)))
		i := int(hi)
		// The low word of the product is uniform, too, and nearly independent of the column.
		if p.columns != nil && lo >= p.columns[i].share {
			i = p.columns[i].alias
		}
		if n := p.nodes[i]; in.Usable(n) {
			return n
		}
		in.Random = next(in.Random)
	}
	return firstUsable(p.nodes, in)
}

func aliasTable(nodes []*Node) []column {
	var sum float64
	for _, n := range nodes {
		sum += float64(weight(n))
	}
	// Each node's share in columns: 1 fills a column.
	left := make([]float64, len(nodes))
	var small, large []int
	for i, n := range nodes {
		left[i] = float64(weight(n)) * float64(len(nodes)) / sum
		if left[i] < 1 {
			small = append(small, i)
		} else {
			large = append(large, i)
		}
	}
	columns := make([]column, len(nodes))
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		columns[s] = column{share: uint64(left[s] * (1 << 63) * 2), alias: l}
		if left[l] -= 1 - left[s]; left[l] < 1 {
			large = large[:len(large)-1]
			small = append(small, l)
		}
	}
	for _, i := range append(small, large...) { // full, but for rounding
		columns[i] = column{share: 1<<64 - 1, alias: i}
	}
	return columns
}

func weight(n *Node) uint32 { return max(n.ep.Load().Weight, 1) }

func equalWeights(nodes []*Node) bool {
	for _, n := range nodes[1:] {
		if weight(n) != weight(nodes[0]) {
			return false
		}
	}
	return true
}

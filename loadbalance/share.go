package loadbalance

import "math"

// Share returns the part of the picks that the node is meant to get, from 0 to 1, as far as weights, ejections, failed checks,
// operators, priorities and zones say: what algorithms make of load, latency and keys comes on top, and breakers and slow starts do not
// count. It is 0 for a node that is not in the set. The first call after a change takes time in proportion to the number of
// nodes; others do not.
func (s *Set) Share(n *Node) float64 {
	p := s.current()
	if p == nil {
		return 0
	}
	m := p.parts.Load()
	if m == nil {
		m = p.divide()
		p.parts.Store(m)
	}
	return (*m)[n]
}

// divide returns the parts of all nodes that have one.
func (p *plan) divide() *map[*Node]float64 {
	m := map[*Node]float64{}
	var before float64
	for i := range p.shares {
		sh := &p.shares[i]
		upTo := float64(sh.upTo) / math.MaxUint64
		part := upTo - before
		before = upTo
		serves := func(n *Node) bool {
			out := n.out.Load()
			return out == 0 || sh.panicking && (out > 0 || out == unfit)
		}
		var sum float64
		for _, n := range sh.level.nodes {
			if serves(n) {
				sum += float64(weight(n))
			}
		}
		none := sum == 0 // is left: all are a last resort
		for _, n := range sh.level.nodes {
			switch {
			case none:
				m[n] += part / float64(len(sh.level.nodes))
			case serves(n):
				m[n] += part * float64(weight(n)) / sum
			}
		}
	}
	return &m
}

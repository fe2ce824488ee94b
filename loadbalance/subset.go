package loadbalance

import (
	"cmp"
	"slices"
)

// Subset returns the nodes that a client keeps to where each client of a large service is to know a few of its nodes only:
// the size nodes with the highest hash of their address and the client, in the order of the list. The same client gets
// the same nodes from every list with the same addresses, and each node that comes or goes changes at most one of
// them. nodes itself is returned if it has no more than size; a size below 1 counts as 1.
//
// client must differ between clients, such as the name of the pod does, and should outlive restarts. Subsets are random:
// of N clients with k nodes of S each, a node has as many as N*k/S on average, with a coefficient of variation of
// sqrt((1-k/S)/(N*k/S)), so that small subsets make for uneven load. gRFC A68.
func Subset(nodes []*Node, size int, client string) []*Node {
	if size = max(size, 1); len(nodes) <= size {
		return nodes
	}
	type candidate struct {
		score uint64
		at    int
	}
	list := make([]candidate, len(nodes))
	seed := xxh64(client, 0)
	for i, n := range nodes {
		list[i] = candidate{xxh64(n.addr, seed), i}
	}
	slices.SortFunc(list, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(nodes[a.at].addr, nodes[b.at].addr))
	})
	list = list[:size]
	slices.SortFunc(list, func(a, b candidate) int { return cmp.Compare(a.at, b.at) })
	subset := make([]*Node, size)
	for i, c := range list {
		subset[i] = nodes[c.at]
	}
	return subset
}

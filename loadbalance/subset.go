package loadbalance

import (
	"cmp"
	"math/bits"
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

// Aperture returns the nodes that a client keeps to where the number of clients is known, and which of them it is: the size
// nodes from its own place on, of all nodes on a circle in the order of the hash of their address. Clients are numbered
// from 0 on; numbers outside and fewer than one client count modulo what there are. The nodes are in the order of the list,
// and nodes itself is returned if it has no more than size; a size below 1 counts as 1.
//
// Every node has the same number of clients, or one more, while Subset leaves that to chance. The price is that the number
// of clients matters: when it changes, most of them change some nodes. A node that comes or goes changes at most two
// nodes of each client. After the deterministic aperture of Finagle
// (https://twitter.github.io/finagle/guide/ApertureLoadBalancers.html), whose least aperture is 12.
func Aperture(nodes []*Node, size, client, clients int) []*Node {
	if size = max(size, 1); len(nodes) <= size {
		return nodes
	}
	type place struct {
		hash uint64
		at   int
	}
	circle := make([]place, len(nodes))
	for i, n := range nodes {
		circle[i] = place{xxh64(n.addr, 0), i}
	}
	slices.SortFunc(circle, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(nodes[a.at].addr, nodes[b.at].addr))
	})
	clients = max(clients, 1)
	if client %= clients; client < 0 {
		client += clients
	}
	hi, lo := bits.Mul64(uint64(client), uint64(len(nodes)))
	first, _ := bits.Div64(hi, lo, uint64(clients))
	own := make([]int, size)
	for k := range own {
		own[k] = circle[(int(first)+k)%len(circle)].at
	}
	slices.Sort(own)
	aperture := make([]*Node, size)
	for k, i := range own {
		aperture[k] = nodes[i]
	}
	return aperture
}

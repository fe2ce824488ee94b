package loadbalance

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"strconv"
)

// RingHash keeps calls of the same key on the same node by consistent hashing: each node holds points on a ring, and a
// call goes to the node of the first point at or after its hash. When a node leaves, only its keys move. Shares follow the
// weights within a fifth or so. See HashConfig for the bound of the load, and for rings like those of Envoy and gRPC.
//
// A node of mean weight holds 128 to 256 points, fewer in sets of a thousand nodes and more: a ring of 262,144 points takes
// tens of milliseconds to build, at each update. The points are XXH64 of "address_0", "address_1" and so on.
//
// D. Karger et al., "Consistent Hashing and Random Trees", 1997.
func RingHash(nodes []*Node) Picker { return HashConfig{}.Ring(nodes) }

const (
	pointsPerNode = 128
	manyPoints    = 1 << 18
	maxPoints     = 8 << 20
)

// Ring is RingHash with the settings of c.
func (c HashConfig) Ring(nodes []*Node) Picker {
	type point struct {
		hash  uint64
		owner uint32
	}
	ring := make([]point, 0, pointsPerNode*min(len(nodes), 1024))
	var name []byte
	for i, count := range c.points(nodes) {
		name = append(append(name[:0], nodes[i].Addr()...), '_')
		prefix := len(name)
		for k := range int64(count) {
			name = strconv.AppendInt(name[:prefix], k, 10)
			ring = append(ring, point{xxh64(string(name), 0), uint32(i)})
		}
	}
	slices.SortFunc(ring, func(a, b point) int { return cmp.Compare(a.hash, b.hash) })
	hashes, owners := make([]uint64, len(ring)), make([]uint32, len(ring))
	for i, p := range ring {
		hashes[i], owners[i] = p.hash, p.owner
	}
	return &circle{bound: c.bound(nodes), owners: owners, place: finder(hashes)}
}

// points returns how many points each node has.
func (c HashConfig) points(nodes []*Node) []uint32 {
	var sum float64
	for _, n := range nodes {
		sum += float64(weight(n))
	}
	counts := make([]uint32, len(nodes))
	if c.MinRing > 0 || c.MaxRing > 0 {
		c.envoyPoints(nodes, sum, counts)
		return counts
	}
	// The points of a node must not depend on the others, or they would come and go with them: the number for a weight of 1
	// is a power of two.
	mean := max(pointsPerNode/float64(1+len(nodes)*pointsPerNode*2/manyPoints), 1)
	each := math.Exp2(math.Ceil(math.Log2(mean * float64(len(nodes)) / sum)))
	for i, n := range nodes {
		counts[i] = uint32(math.Ceil(each * float64(weight(n))))
	}
	return counts
}

// envoyPoints counts in the way of Envoy's ring_hash_lb.cc and grpc-go's ring.go: as few as give the least weight a whole
// number.
func (c HashConfig) envoyPoints(nodes []*Node, sum float64, counts []uint32) {
	if c.MinRing <= 0 {
		c.MinRing = 1024
	}
	if c.MaxRing <= 0 {
		c.MaxRing = maxPoints
	}
	high := min(max(float64(c.MaxRing), float64(len(nodes))), maxPoints)
	least := 1.0
	order := make([]int, len(nodes))
	for i, n := range nodes {
		order[i] = i
		least = min(least, float64(weight(n))/sum)
	}
	// Their rounding depends on the order of addresses.
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(nodes[a].Addr(), nodes[b].Addr()) })
	scale := min(math.Ceil(least*min(float64(c.MinRing), high))/least, high)
	var current, target float64
	for _, i := range order {
		for target += scale * (float64(weight(nodes[i])) / sum); current < target; current++ {
			counts[i]++
		}
	}
}

// finder returns the function that finds the first of the ascending hashes at or above one, and 0 if there is none. A
// table of where each part of the circle begins makes that a step or two, however many there are.
func finder(hashes []uint64) func(uint64) int {
	shift := 64 - bits.Len(uint(len(hashes)))
	begins := make([]uint32, 1<<(64-shift))
	at := 0
	for part := range begins {
		for at < len(hashes) && hashes[at]>>shift < uint64(part) {
			at++
		}
		begins[part] = uint32(at)
	}
	return func(hash uint64) int {
		at := int(begins[hash>>shift])
		for at < len(hashes) && hashes[at] < hash {
			at++
		}
		if at == len(hashes) {
			return 0
		}
		return at
	}
}

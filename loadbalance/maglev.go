package loadbalance

import (
	"cmp"
	"math/big"
	"math/bits"
	"slices"
)

// Maglev keeps calls of the same key on the same node by a table in which each node fills the places of its share, in an
// order of its own. Shares are exact to a place and a pick is one look-up. But when a node leaves, 0.6 % of the keys of
// other nodes move, too; with hundreds of nodes that is more than moves from the node itself. See HashConfig for the bound
// of the load and for larger tables.
//
// D. E. Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", 2016.
func Maglev(nodes []*Node) Picker { return HashConfig{}.Maglev(nodes) }

const maxTable = 5_000_011

// Maglev is the algorithm Maglev with the settings of c.
func (c HashConfig) Maglev(nodes []*Node) Picker {
	size := c.tableSize(len(nodes))
	owners := maglevTable(nodes, size)
	return &circle{bound: c.bound(nodes), owners: owners, place: func(hash uint64) int { return index(hash, size) }}
}

// tableSize returns the number of places, a prime, so that a walk of any step width comes to all of them.
func (c HashConfig) tableSize(n int) int {
	if c.Table <= 0 {
		c.Table = 65_537
	}
	size := min(max(c.Table, 5*min(n, maxTable), 3), maxTable)
	for !big.NewInt(int64(size)).ProbablyPrime(0) { // exact for numbers below 2^64
		size++
	}
	return size
}

// maglevTable returns which node holds each place of a table of a prime size.
func maglevTable(nodes []*Node, size int) []uint32 {
	type claim struct {
		key        uint64 // orders the claims, whatever the order of the list
		node       uint32
		next, skip uint32 // its places: next, next+skip and so on
		left       uint32 // how many it still gets
	}
	var sum uint64
	for _, n := range nodes {
		sum += uint64(weight(n))
	}
	claims := make([]claim, len(nodes))
	for i, n := range nodes {
		key := xxh64(n.Addr(), 0)
		hi, lo := bits.Mul64(uint64(size), uint64(weight(n)))
		left, _ := bits.Div64(hi, lo, sum)
		claims[i] = claim{
			key:  key,
			node: uint32(i),
			next: uint32(key % uint64(size)),
			skip: uint32(xxh64(n.Addr(), 1)%uint64(size-1)) + 1,
			left: uint32(left),
		}
	}
	slices.SortFunc(claims, func(a, b claim) int { return cmp.Compare(a.key, b.key) })
	const free = 1<<32 - 1
	owners := slices.Repeat([]uint32{free}, size)
	filled := 0
	turn := func(c *claim) {
		for owners[c.next] != free {
			c.next = uint32((uint64(c.next) + uint64(c.skip)) % uint64(size))
		}
		owners[c.next] = c.node
		filled++
	}
	// In turn, each its whole share, then what rounding left over.
	active := make([]*claim, 0, len(claims))
	for i := range claims {
		active = append(active, &claims[i])
	}
	for len(active) > 0 {
		active = slices.DeleteFunc(active, func(c *claim) bool { return c.left == 0 })
		for _, c := range active {
			turn(c)
			c.left--
		}
	}
	for i := 0; filled < size; i++ {
		turn(&claims[i%len(claims)])
	}
	return owners
}

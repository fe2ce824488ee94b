package loadbalance

// circle is a picker over places that nodes hold: a hash points to a place, and further nodes follow from there on.
type circle struct {
	bound
	owners []uint32 // index of the node that holds a place
	place  func(hash uint64) int
}

// walks is how many places are looked at in order. Four fifths of the nodes at most have reached a bound of 1.25, so that
// one walk in a million goes further.
const walks = 64

func (c *circle) Pick(in Info) *Node { return c.pick(&in) }

func (c *circle) pick(in *Info) *Node {
	hash := in.hash()
	now := c.nodes[0].since(in.Now)
	var a allowance
	at := c.place(hash)
	in.hashed()
	for range min(walks, len(c.owners)) {
		n := c.nodes[c.owners[at]]
		if c.takes(n, hash, &a, in, now) {
			return n
		}
		if in.Choice != nil {
			in.passed(n, now)
		}
		if at++; at == len(c.owners) {
			at = 0
		}
	}
	return c.least(hash, in, now)
}

package loadbalance

import (
	"math/bits"
	"slices"
	"time"
)

// Info is what a pick may take into account.
type Info struct {
	// Now is the time of the pick. Required.
	Now time.Time
	// Avoid are the nodes the call has tried. They are picked only when no other is left.
	Avoid []*Node
	// Other makes the pick fail with ErrNoOther rather than return a node in Avoid.
	Other bool
	// Sound makes the pick pass over nodes under a penalty as it does over those in Avoid.
	Sound bool
	// Random is the random word of the pick, drawn by the Balancer; pickers use no other chance.
	Random uint64
	// Hash is the hash of what calls that are to go to the same node have in common, such as a session; see HashKey. Its
	// bits must be equally likely, which those of a number that counts are not. 0 means that there is no such thing. Only
	// the pickers of HashConfig look at it.
	Hash uint64
	// Node is the NodeKey of the node that the call is bound to: it goes there, past the algorithm, unless the node is gone,
	// ejected, taken out by an operator, not healthy, or in Avoid. One that is draining, by its source or by an operator, is not
	// too bad for that. 0 means that the call is bound to none.
	Node uint64
	// Strict makes the pick fail with ErrNoNode rather than return another node than Node. That it is in Avoid does not
	// matter then, unless Other is set.
	Strict bool
	// Choice, if it is not nil, is filled with how the pick came about, whether it succeeds or not. That looks at every node, so
	// it is for a sample of the picks, and for those after a failure; see also Set.Look. A Builder's own Picker may fill in How
	// and what it compared, and must not keep it.
	Choice *Choice

	how       How   // HowNone for what pickers say
	level     uint8 // that the pick is for
	within    bool  // nodes at their limit do not count
	panicking bool  // neither ejections nor failed checks count
	again     bool  // further random words follow from the first
	except    *Node // has been picked and was not due, nil if there is no such node
}

// hash returns the hash that decides, a random one if there is none.
func (in *Info) hash() uint64 {
	if in.Hash == 0 {
		return in.Random
	}
	return in.Hash
}

// Usable reports whether a picker may return the node without further thought: it is available and not
// to be avoided.
func (in *Info) Usable(n *Node) bool {
	return in.easy() && n.plain() || in.usable(n)
}

// easy reports whether every node that is plain is Usable, and nobody wants to know why.
func (in *Info) easy() bool {
	return len(in.Avoid) == 0 && !in.Sound && in.except == nil && in.Choice == nil
}

// usable is what seldom matters of Usable.
func (in *Info) usable(n *Node) bool {
	out := n.out.Load()
	return (out == 0 || in.panicking && (out > 0 || out == unfit)) && n.admits(in.Now) && n != in.except && !slices.Contains(in.Avoid, n) && !(in.within && n.full()) && (!in.Sound || !n.Penalized(in.Now))
}

// Picker chooses from the nodes it was built for. Implementations are pure: the choice depends on Info and
// on the state of the nodes alone, but for a counter at most. They take no lock, do not allocate,
// never return nil, and return a node that is not Usable only if none is.
//
// Pick must be safe for concurrent use.
type Picker interface {
	Pick(Info) *Node
}

// Builder makes the Picker for a set of nodes, of which there is at least one. It is the plug-in point
// for algorithms. The slice is shared: it may be kept, but not changed. It is called while an update holds
// its lock, so it must not call the Balancer.
type Builder func(nodes []*Node) Picker

// pick is p.Pick(*in), without the copy of Info where the picker is one of this package. That takes 20 ns, more than the
// choice: the processor cannot read 16 bytes at once of which 8 were written a moment ago, and waits.
func pick(p Picker, in *Info) *Node {
	switch p := p.(type) {
	case *twoChoices:
		return p.pick(in)
	case *roundRobin:
		return p.pick(in)
	case *prequal:
		return p.pick(in)
	case *random:
		return p.pick(in)
	case *utilization:
		return p.pick(in)
	case *circle:
		return p.pick(in)
	case *rendezvous:
		return p.pick(in)
	case *moreChoices:
		return p.pick(in)
	case *anyChoices:
		return p.pick(in)
	}
	return p.Pick(*in)
}

// index maps a random word to [0, n) by multiplication, without the bias and the division of a modulo.
func index(r uint64, n int) int {
	hi, _ := bits.Mul64(r, uint64(n))
	return int(hi)
}

// pair draws two distinct indices of [0, n), n >= 2, from one random word. Drawn with replacement, a node
// that never answers would still win against itself once in n*n picks.
func pair(r uint64, n int) (int, int) {
	hi, lo := bits.Mul64(r, uint64(n))
	i, j := int(hi), index(lo, n-1)
	return i, j + 1 + (j-i)>>63 // j if it is less than i, else the one after: no branch, as it is anybody's guess
}

// draws is how often a picker draws before it looks for a usable node in order. Looking in order at once
// would give all that a run of unusable nodes loses to the node after the run; with half of them unusable a
// pair of usable ones is found in eight draws nine times in ten.
const draws = 8

// next returns the random word of a further draw (the generator of D. E. Knuth's MMIX; the high bits, which
// are all that index and pair see of it at first, are its good ones).
func next(r uint64) uint64 { return r*6364136223846793005 + 1442695040888963407 }

// sounded is how many nodes sound looks at: all of most services, yet few enough where ten thousand fail together.
const sounded = 128

// sound returns a usable node that does not keep failing, nil if it finds none from a random place on.
func sound(nodes []*Node, in *Info) *Node {
	start := index(in.Random, len(nodes))
	for k := range min(len(nodes), sounded) {
		n := nodes[(start+k)%len(nodes)]
		if in.Usable(n) && !n.penalty.repeated(n.since(in.Now)) {
			return n
		}
	}
	return nil
}

// walk returns up to two usable nodes, looking from a random place on.
func walk(nodes []*Node, in *Info) (a, b *Node) {
	start := index(in.Random, len(nodes))
	for k := range nodes {
		i := start + k
		if i >= len(nodes) {
			i -= len(nodes)
		}
		if n := nodes[i]; in.Usable(n) {
			if a != nil {
				return a, n
			}
			a = n
		}
	}
	return a, nil
}

// lastResort returns a node although none is usable: one that was not tried if there is one, and none that an operator took out
// unless all are.
func lastResort(nodes []*Node, in *Info) *Node {
	start := index(in.Random, len(nodes))
	best, rank := nodes[start], 0
	for k := range nodes {
		n := nodes[(start+k)%len(nodes)]
		r := 1
		if n.out.Load() > byHand {
			r += 2
		}
		if !slices.Contains(in.Avoid, n) {
			r++
		}
		if r > rank {
			best, rank = n, r
		}
		if rank == 4 {
			break
		}
	}
	return best
}

// firstUsable is the way out of pickers whose choice fell on nodes that are not usable.
func firstUsable(nodes []*Node, in *Info) *Node {
	if n, _ := walk(nodes, in); n != nil {
		return n
	}
	return lastResort(nodes, in)
}

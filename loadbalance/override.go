package loadbalance

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/zerohop/zerohop/discovery"
)

// ErrNoNode says that the node a call is bound to cannot take it: it has left the set, is ejected, fails its health
// checks, is unhealthy or terminating by its source, or its breaker rejects it.
var ErrNoNode = errors.New("loadbalance: the endpoint that the call is bound to is gone or out of service")

// NodeKey returns the key of the node with an address, for Info.Node: 64 bits of the SHA-256 of the address, the same in
// every process and never 0. A key can be given to clients, as the value of a session: it does not show the address,
// and what they send back names a node of a set or nothing. Whoever can guess an address can find out its key, though.
func NodeKey(addr string) uint64 {
	var room [64]byte
	sum := sha256.Sum256(append(room[:0], addr...))
	return max(binary.BigEndian.Uint64(sum[:]), 1)
}

// Find returns the node of the set with a key, nil if there is none. The first call for a snapshot makes an index of its
// nodes, which takes time and memory in proportion to their number; the others take one atomic load.
func (s *Set) Find(key uint64) *Node {
	x := s.index.Load()
	if x == nil {
		x = s.makeIndex()
	}
	return (*x)[key]
}

func (s *Set) makeIndex() *map[uint64]*Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.index.Load(); x != nil {
		return x
	}
	x := make(map[uint64]*Node, len(s.nodes))
	for _, n := range s.nodes {
		x[NodeKey(n.Addr())] = n
	}
	s.index.Store(&x)
	return &x
}

// bound picks the node that a call is bound to: "override host" in Envoy and gRPC (gRFC A55). One that is draining
// keeps the calls that are bound to it and gets no other ones. It returns ErrNoNode if the node cannot be had, and
// ErrNoOther if it was tried and only another is wanted, and ErrLimited if it is at its limit.
func (s *Set) bound(p *plan, in *Info) (Pick, error) {
	if in.Choice != nil {
		in.level = anyLevel
		s.survey(in, p.panicking)
	}
	n := s.Find(in.Node)
	if n == nil {
		return Pick{}, ErrNoNode
	}
	if slices.Contains(in.Avoid, n) {
		if in.Other {
			return Pick{}, ErrNoOther
		}
		if !in.Strict {
			return Pick{}, ErrNoNode
		}
	}
	if in.Sound && !in.Strict && n.Penalized(in.Now) {
		return Pick{}, ErrNoNode
	}
	switch n.ep.Load().Health {
	case discovery.Healthy, discovery.Draining:
	default:
		if !s.desperate() {
			return Pick{}, ErrNoNode
		}
	}
	probe := false
	if out := n.out.Load(); out == left {
		return Pick{}, ErrNoNode
	} else if out == byHand {
		return Pick{}, ErrNoNode
	} else if out != 0 && out != drained && !p.panicking {
		// Calls that may go nowhere else are the only ones to find out whether it is back where there are no others.
		if probe = out > 0 && in.Strict && s.setup.outliers.claim(n, s.balancer.since(in.Now)); !probe {
			return Pick{}, ErrNoNode
		}
	}
	in.how, in.level = HowBound, anyLevel
	pick, ok := n.claim(in)
	if !ok {
		in.how = HowNone
	}
	switch {
	case ok:
		if probe {
			pick.trace |= probing
		}
		return pick, nil
	case n.full():
		return Pick{}, ErrLimited
	default:
		return Pick{}, ErrNoNode
	}
}

// claim claims a node whose ejection is over for the attempt that is about to begin, as probe does.
func (d *outliers) claim(n *Node, now time.Duration) bool {
	one := [1]*Node{n}
	due, _ := d.probe(one[:], now, 0)
	return due != nil
}

// desperate reports whether the source calls no node healthy, so that its word does not count. There is a node.
func (s *Set) desperate() bool { return s.levels[0].nodes[0].ep.Load().Health != discovery.Healthy }

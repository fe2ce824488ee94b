package loadbalance

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync/atomic"
)

// ErrNoMatch says that no endpoint has the metadata that a call asks for.
var ErrNoMatch = errors.New("loadbalance: no endpoint has the metadata asked for")

const (
	// maxGroupings is how many lists of keys a set is divided by at the same time. They come from policies, and a policy
	// with four optional keys makes sixteen.
	maxGroupings = 64
	// maxSubsets is how many subsets of a set have a picker of their own at the same time. Values come from the headers
	// of requests: with a Maglev table for each of ten thousand the memory would be full.
	maxSubsets = 128
)

// grouping divides the nodes of a set by what they have under some keys, or by their lane.
type grouping struct {
	division
	parts map[string]*part // by the joined values; those with nodes only
}

// division is how nodes are told apart.
type division struct {
	keys   []string
	lanes  bool   // there is one key, and who does not have it, or has nothing or stable there, has nothing there
	stable string // used if lanes
}

// values finds what the node has under the keys. It reports whether it has all of them.
func (d *division) values(n *Node, values []string) bool {
	meta := n.ep.Load().Meta
	for i, k := range d.keys {
		v, ok := meta[k]
		if d.lanes && v == d.stable {
			v = ""
		}
		if values[i] = v; !ok && !d.lanes {
			return false
		}
	}
	return true
}

// has reports whether the node has the values.
func (d *division) has(n *Node, values []string) bool {
	own := make([]string, len(values))
	return d.values(n, own) && slices.Equal(own, values)
}

// of returns the part of another set that has the values, nil if that has no nodes.
func (d *division) of(s *Set, values []string) *Set {
	if d.lanes {
		return s.Lane(d.keys[0], d.stable, values[0])
	}
	return s.Matching(d.keys, values)
}

// part are the nodes with the same values.
type part struct {
	nodes []*Node
	set   atomic.Pointer[Set] // nil until it is asked for, and when others were since
}

// Matching returns the subset of the nodes whose metadata has values[i] under keys[i], for all i, or nil if there is none.
// In the subset, priorities, zones and panic are decided among its nodes alone. keys should be in a fixed order
// and must not be changed afterwards. Without keys it returns s.
//
// The first call with some keys looks at all nodes, and the first one with some values makes a picker; others take two
// atomic loads and do not allocate. A snapshot keeps 64 lists of keys and 128 subsets, and then makes room for others.
func (s *Set) Matching(keys, values []string) *Set {
	if len(keys) == 0 {
		return s
	}
	if len(s.nodes) == 0 {
		return nil
	}
	g := find(s.groupings.Load(), keys)
	if g == nil {
		g = s.group(division{keys: keys})
	}
	var p *part
	if len(values) == 1 {
		p = g.parts[values[0]]
	} else {
		var room [128]byte
		p = g.parts[string(join(room[:0], values))]
	}
	if p == nil {
		return nil
	}
	if sub := p.set.Load(); sub != nil {
		return sub
	}
	return s.subset(p, &g.division, values)
}

// join makes one key of several values such that different lists make different ones.
func join(b []byte, values []string) []byte {
	for _, v := range values {
		b = binary.AppendUvarint(b, uint64(len(v)))
		b = append(b, v...)
	}
	return b
}

// find returns the grouping by the keys, nil if there is none.
func find(list *[]*grouping, keys []string) *grouping {
	if list != nil {
		for _, g := range *list {
			if !g.lanes && slices.Equal(g.keys, keys) {
				return g
			}
		}
	}
	return nil
}

// group returns the grouping for a division, made if there is none.
func (s *Set) group(d division) *grouping {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.groupings.Load()
	if old != nil {
		for _, g := range *old {
			if g.lanes == d.lanes && g.stable == d.stable && slices.Equal(g.keys, d.keys) {
				return g
			}
		}
	}
	g := &grouping{division: d, parts: map[string]*part{}}
	values := make([]string, len(d.keys))
	var joined []byte
	for _, n := range s.nodes {
		if !d.values(n, values) {
			continue
		}
		if joined = append(joined[:0], values[0]...); len(d.keys) > 1 {
			joined = join(joined[:0], values)
		}
		p := g.parts[string(joined)]
		if p == nil {
			p = &part{}
			g.parts[string(joined)] = p
		}
		p.nodes = append(p.nodes, n)
	}
	list := []*grouping{g}
	if old != nil {
		list = append(list, (*old)[:min(len(*old), maxGroupings-1)]...)
	}
	s.groupings.Store(&list)
	return g
}

// subset makes the set of a part, in the place of the one that was made first if there are too many.
func (s *Set) subset(p *part, d *division, values []string) *Set {
	var known *Set
	var awaited []*Node
	if s.known != nil {
		known = d.of(s.known, values)
		awaited = slices.DeleteFunc(slices.Clone(s.awaited), func(n *Node) bool { return !d.has(n, values) })
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if sub := p.set.Load(); sub != nil {
		return sub
	}
	sub := s
	switch {
	case known == s.known && len(p.nodes) == len(s.nodes):
	case known != nil:
		s.balancer.mu.Lock()
		sub = s.balancer.reachable(p.nodes, awaited, known.nodes)
		s.balancer.mu.Unlock()
		sub.known, sub.awaited = known, awaited
	case len(p.nodes) < len(s.nodes):
		s.balancer.mu.Lock() // what the source says of the nodes must not change meanwhile
		sub = s.balancer.View(p.nodes)
		s.balancer.mu.Unlock()
	}
	if sub != s {
		sub.size = s.size
	}
	if len(s.subsets) == maxSubsets {
		s.subsets[0].set.Store(nil)
		s.subsets = slices.Delete(s.subsets, 0, 1)
	}
	s.subsets = append(s.subsets, p)
	p.set.Store(sub)
	return sub
}

package routing

import (
	"cmp"
	"math"
)

// node finds the first candidate that fits among those of one service and path. Where there are many, as when 1,000 tenants are
// told apart by a header, it looks up by the value that the call has who of them can fit at all.
type node struct {
	list []*candidate // in the order of precedence, of a leaf

	by     feature
	values map[string]*node
	rest   *node // of those that do not ask for a value of the feature; nil if there are none
}

// feature is what a request is asked for.
type feature struct {
	part part
	name string
}

// part is a part of a call that candidates compare with one value.
type part uint8

const (
	methodPart part = iota
	lanePart
	headerPart
	queryPart
	cookiePart
)

const (
	noBound = math.MaxInt
	// crowd is how many candidates are looked at one by one: it takes as long as looking into a map or two.
	crowd = 6
)

// newNode makes a node of candidates in the order of precedence. used are the features that they were sorted by already.
func newNode(list []*candidate, used map[feature]bool) *node {
	n := &node{list: list}
	if len(list) <= crowd {
		return n
	}
	by, distinct := feature{}, 0
	values := map[feature]map[string]bool{}
	for _, c := range list {
		for f, v := range c.features {
			if values[f] == nil {
				values[f] = map[string]bool{}
			}
			values[f][v] = true
			count := len(values[f])
			if !used[f] && (count > distinct || count == distinct && f.compare(by) < 0) {
				by, distinct = f, count
			}
		}
	}
	if distinct <= crowd/2 {
		return n
	}
	lists := map[string][]*candidate{}
	var rest []*candidate
next:
	for _, c := range list {
		for f, v := range c.features {
			if f == by {
				lists[v] = append(lists[v], c)
				continue next
			}
		}
		rest = append(rest, c)
	}
	n.list, n.by, n.values = nil, by, make(map[string]*node, len(lists))
	used[by] = true
	for v, list := range lists {
		n.values[v] = newNode(list, used)
	}
	if len(rest) > 0 {
		n.rest = newNode(rest, used)
	}
	delete(used, by)
	return n
}

// features yields the features that a call must have for the candidate to fit, and their values.
func (c *candidate) features(yield func(feature, string) bool) {
	if c.method != "" && !yield(feature{methodPart, ""}, c.method) {
		return
	}
	if c.lane != "" && !yield(feature{lanePart, ""}, c.lane) {
		return
	}
	for i := range c.fields {
		f := &c.fields[i]
		if f.value != "" && !f.negated && !yield(feature{headerPart + part(f.kind), f.name}, f.value) {
			return
		}
	}
}

func (f feature) compare(g feature) int {
	return cmp.Or(cmp.Compare(f.part, g.part), cmp.Compare(f.name, g.name))
}

// leading returns the candidate of highest precedence that fits and comes before the bound, nil if there is none.
func leading[P string | []byte](n *node, q *call, path P, bound int) *candidate {
	if n == nil {
		return nil
	}
	if n.values == nil {
		for _, c := range n.list {
			if c.order >= bound {
				break
			}
			if f, _ := check(c, q, path); f == noFailure {
				return c
			}
		}
		return nil
	}
	found := leading(n.child(q), q, path, bound)
	if found != nil {
		bound = found.order
	}
	if c := leading(n.rest, q, path, bound); c != nil {
		return c
	}
	return found
}

// child returns the node for the value that the call has, nil if there is none.
func (n *node) child(q *call) *node {
	switch n.by.part {
	case methodPart:
		return n.values[q.method()]
	case lanePart:
		return n.values[q.Lane]
	case headerPart:
		return n.values[q.header(n.by.name)]
	case cookiePart:
		v, _ := q.cookie(n.by.name)
		return n.values[v]
	}
	raw, _ := q.param(n.by.name)
	if isEncoded(raw) {
		return n.encodedChild(raw)
	}
	return n.values[raw]
}

// encodedChild is apart so that other calls need not clear the memory.
func (n *node) encodedChild(raw string) *node {
	var buf [maxValue + 1]byte
	return n.values[string(buf[:decodeParam(buf[:], raw)])]
}

package routing

import "strings"

// Table is a compiled list of rules. It never changes, so any number of goroutines may use it at once, and a holder
// can replace it with one atomic store. A nil Table has no rules.
type Table struct {
	rules     []Rule
	groups    map[string]*group // by Match.Service; "" is for any service
	wildcards map[string]*group // by what the service ends in, from the "." on
	longest   int               // length of the longest key of wildcards
	paths     []*pathRewrite    // by rule; nil if a rule leaves the path
	timed     bool              // a rule looks at the time
}

// Decision is what a table says to a call.
type Decision struct {
	// Rule is the index of the rule that the call comes under, -1 if there is none.
	Rule int
	// Match says which match of the rule the call fits: 0 is Rule.Match, 1 is Rule.Or[0], and so on; -1 without a rule.
	Match int
	// Backend is the index of the backend that gets the call, -1 without a rule, or if the rule has no backends: then the call
	// stays with the service that the caller named.
	Backend int
}

// none is the decision on a call that no rule is for.
var none = Decision{Rule: -1, Match: -1, Backend: -1}

// group has the candidates for one service, or one wildcard, by their path.
type group struct {
	all     []*candidate // in the order of precedence
	exact   map[string]*node
	regex   *node
	prefix  map[string]*node
	lengths []int // of the keys of prefix, longest first
	method  map[string]*node
	any     *node
}

// Route returns the rule that the call comes under and the backend that gets the call; random is a word of 64 random bits for
// what is left to chance.
//
// Route takes no lock and, but for a few unusual regular expressions on encoded paths, does not allocate. It does not keep r.
func (t *Table) Route(r *Request, random uint64) Decision {
	if t == nil {
		return none
	}
	q := call{Request: r, random: random}
	c := t.route(&q)
	if c == nil {
		return none
	}
	return Decision{c.rule, c.match, c.split.backend(&q)}
}

// route returns the candidate of highest precedence that fits, nil if there is none.
func (t *Table) route(q *call) *candidate {
	path := q.Path
	if path == "" {
		path = "/"
	}
	switch formOf(path) {
	case plain:
		// Rules have at most maxPath bytes; one more tells whether a segment ends there.
		return find(t, q, path[:min(len(path), maxPath+1)])
	case encoded:
		return findEncoded(t, q, path)
	}
	return find(t, q, "")
}

// findEncoded is apart so that other calls need not clear the memory.
func findEncoded(t *Table, q *call, path string) *candidate {
	var buf [maxPath + 1]byte
	return find(t, q, buf[:decode(buf[:], path)])
}

// find returns the candidate of highest precedence, nil if there is none. With an empty path it looks only at those
// without a path condition. It is generic so that a decoded path need not become a string: indexing a map with
// string(bytes) does not allocate.
func find[P string | []byte](t *Table, q *call, path P) *candidate {
	q.isRPC = len(method(path)) > 0
	if q.Service != "" {
		if g := t.groups[q.Service]; g != nil {
			if c := search(g, q, path); c != nil {
				return c
			}
		}
		if t.longest > 0 {
			for suffix := range t.suffixes(q.Service) {
				if g := t.wildcards[suffix]; g != nil {
					if c := search(g, q, path); c != nil {
						return c
					}
				}
			}
		}
	}
	if g := t.groups[""]; g != nil {
		return search(g, q, path)
	}
	return nil
}

// suffixes yields what wildcards for the service may end in, longest first.
func (t *Table) suffixes(service string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		i := max(1, len(service)-t.longest) // something has to come before the "."
		for i < len(service) {
			dot := strings.IndexByte(service[i:], '.')
			if dot < 0 || !yield(service[i+dot:]) {
				return
			}
			i += dot + 1
		}
	}
}

// method returns the second of two segments, nothing if the path has other than two or is too long for an RPC.
func method[P string | []byte](path P) P {
	if len(path) > maxPath {
		return path[:0]
	}
	slash := 0 // the one after that at the beginning
	for i := 1; i < len(path); i++ {
		if path[i] == '/' {
			if slash > 0 {
				return path[:0]
			}
			slash = i
		}
	}
	if slash == 0 {
		return path[:0]
	}
	return path[slash+1:]
}

// search returns the candidate of the group of highest precedence, nil if there is none.
func search[P string | []byte](g *group, q *call, path P) *candidate {
	if len(path) > 0 {
		if c := leading(g.exact[string(path)], q, path, noBound); c != nil {
			return c
		}
		if c := leading(g.regex, q, path, noBound); c != nil {
			return c
		}
		for _, n := range g.lengths {
			if n == len(path) || n < len(path) && path[n] == '/' {
				if c := leading(g.prefix[string(path[:n])], q, path, noBound); c != nil {
					return c
				}
			}
		}
		if q.isRPC && len(g.method) > 0 {
			if c := leading(g.method[string(method(path))], q, path, noBound); c != nil {
				return c
			}
		}
	}
	return leading(g.any, q, path, noBound)
}

// Timed reports whether a rule looks at the time of a call.
func (t *Table) Timed() bool { return t != nil && t.timed }

// Rule returns rule i as it was given to Compile. What it refers to is shared and must not be changed. It panics if there is
// no such rule.
func (t *Table) Rule(i int) Rule { return t.rules[i] }

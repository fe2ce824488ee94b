package routing

import (
	"math/bits"
	"slices"
)

// Table is a compiled list of rules. It never changes, so any number of goroutines may use it at once, and a holder
// can replace it with one atomic store. A nil Table has no rules.
type Table struct {
	rules  []Rule
	groups map[string]*group // by Match.Service; "" is for any service
}

// group has the rules for one service by their path, each list in the order of precedence.
type group struct {
	exact  map[string][]candidate
	prefix map[string][]candidate // without the "/" at the end
	rest   []candidate            // without a path condition

	longest int // length of the longest key of prefix, -1 without one
}

// candidate is the part of a rule that is left to decide once service and path fit.
type candidate struct {
	rule    int
	method  string
	headers []Header // names canonical
	sums    []uint64 // running sums of the weights of the backends
}

// Values gives the first value of a header, or "" if there is none. Names are asked for in the canonical form of
// net/http. [net/http.Header] is one, without an allocation.
type Values interface{ Get(name string) string }

// Request has what rules look at in a call.
type Request struct {
	// Service is the logical service that the caller named.
	Service string
	// Method is the HTTP method. Empty means GET, as in net/http.
	Method string
	// Path is the path as sent, still encoded and without the query: URL.EscapedPath for HTTP, the full method name for
	// gRPC. Empty means "/".
	Path string
	// Header has the headers of the call. Nil means none.
	Header Values
}

// Route returns the index of the rule that the call comes under and the index of the backend in it that gets the
// call; random is a word of 64 random bits that picks the backend. Without a matching rule both are -1. If the rule
// has no backends, only backend is -1: the call stays with the service that the caller named.
//
// Route takes no lock and does not allocate. It does not keep r.
func (t *Table) Route(r *Request, random uint64) (rule, backend int) {
	if t == nil {
		return -1, -1
	}
	path := r.Path
	if path == "" {
		path = "/"
	}
	var c *candidate
	switch formOf(path) {
	case plain:
		// Rules have at most maxPath bytes; one more tells whether a segment ends there.
		c = find(t, r, path[:min(len(path), maxPath+1)])
	case encoded:
		var buf [maxPath + 1]byte
		c = find(t, r, buf[:decode(buf[:], path)])
	default:
		c = find(t, r, "")
	}
	if c == nil {
		return -1, -1
	}
	return c.rule, c.backend(random)
}

// find returns the candidate of highest precedence, nil if there is none. With an empty path it looks only at rules
// without a path condition. It is generic so that a decoded path need not become a string: indexing a map with
// string(bytes) does not allocate.
func find[P string | []byte](t *Table, r *Request, path P) *candidate {
	for _, service := range [2]string{r.Service, ""} {
		g := t.groups[service]
		if g == nil {
			continue
		}
		if len(path) > 0 {
			if c := first(g.exact[string(path)], r); c != nil {
				return c
			}
			for n := min(len(path), g.longest); n >= 0; n-- {
				if n == len(path) || path[n] == '/' {
					if c := first(g.prefix[string(path[:n])], r); c != nil {
						return c
					}
				}
			}
		}
		if c := first(g.rest, r); c != nil {
			return c
		}
	}
	return nil
}

// first returns the first candidate whose method and headers fit.
func first(cs []candidate, r *Request) *candidate {
	for i := range cs {
		if cs[i].fits(r) {
			return &cs[i]
		}
	}
	return nil
}

func (c *candidate) fits(r *Request) bool {
	if c.method != "" && c.method != r.Method && (c.method != "GET" || r.Method != "") {
		return false
	}
	if len(c.headers) > 0 && r.Header == nil {
		return false
	}
	for i := range c.headers {
		h := &c.headers[i]
		if v := r.Header.Get(h.Name); v == "" || !h.Present && v != h.Value {
			return false
		}
	}
	return true
}

// backend maps the random word to [0, sum of weights) by multiply-shift: the share of a backend is off by at most
// sum/2^64.
func (c *candidate) backend(random uint64) int {
	last := len(c.sums) - 1
	if last <= 0 {
		return last // none, or the only one
	}
	x, _ := bits.Mul64(random, c.sums[last])
	i := 0
	for x >= c.sums[i] {
		i++
	}
	return i
}

// Rule returns rule i as it was given to Compile. Its slices are shared and must not be changed. It panics if there is
// no such rule.
func (t *Table) Rule(i int) Rule { return t.rules[i] }

// Services returns the services that rules name, in a match or as a backend, sorted.
func (t *Table) Services() []string {
	if t == nil {
		return nil
	}
	var names []string
	for i := range t.rules {
		if s := t.rules[i].Match.Service; s != "" {
			names = append(names, s)
		}
		for _, b := range t.rules[i].Backends {
			names = append(names, b.Service)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Reachable returns the services that calls to the service may go to, sorted: the backends with a weight of each rule
// that may match, and the service itself unless rules send every call elsewhere.
func (t *Table) Reachable(service string) []string {
	if t == nil {
		return []string{service}
	}
	var names []string
	caught := false // by a rule that leaves nothing to those of lower precedence
	for _, key := range [2]string{service, ""} {
		outer := caught
		for i := range t.rules {
			r := &t.rules[i]
			if outer || r.Match.Service != key || caught && r.Match.catchAll() {
				continue
			}
			caught = caught || r.Match.catchAll()
			if len(r.Backends) == 0 {
				names = append(names, service)
			}
			for j, b := range r.Backends {
				if r.share(j) > 0 {
					names = append(names, b.Service)
				}
			}
		}
	}
	if !caught {
		names = append(names, service)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

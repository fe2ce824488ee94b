package routing

import (
	"cmp"
	"net/textproto"
	"strings"
	"time"
)

// kind is what part of a call a condition is about.
type kind uint8

const (
	onHeader kind = iota
	onQuery
	onCookie
)

// condition is a compiled Field.
type condition struct {
	kind    kind
	field   int    // its index in the match
	name    string // of headers in canonical form
	value   string
	prefix  string
	regex   *pattern
	negated bool
}

// met reports whether the call meets the condition.
func (c *condition) met(q *call) bool {
	switch c.kind {
	case onHeader:
		return holds(c, q.header(c.name))
	case onCookie:
		v, ok := q.cookie(c.name)
		return ok && holds(c, v) // if not ok: neither it nor its contrary
	}
	raw, ok := q.param(c.name)
	if !ok {
		return false // neither it nor its contrary
	}
	if isEncoded(raw) {
		return c.metEncoded(raw)
	}
	return holds(c, raw)
}

// metEncoded is apart so that other calls need not clear the memory.
func (c *condition) metEncoded(raw string) bool {
	var buf [maxValue + 1]byte
	return holds(c, buf[:decodeParam(buf[:], raw)])
}

func holds[S string | []byte](c *condition, v S) bool {
	var is bool
	switch {
	case len(v) == 0:
	case c.value != "":
		is = string(v) == c.value
	case c.prefix != "":
		is = len(v) >= len(c.prefix) && string(v[:len(c.prefix)]) == c.prefix
	case c.regex != nil:
		if len(v) > maxSubject {
			return false // neither it nor its contrary: nobody knows
		}
		is = fits(c.regex, v)
	default:
		is = true
	}
	return is != c.negated
}

// pathKind is the kind of a condition on the path, from the highest precedence to the lowest.
type pathKind uint8

const (
	exactPath pathKind = iota
	regexPath
	prefixPath
	methodPath // any RPC of a method
	anyPath
)

// candidate is a compiled match of a rule.
type candidate struct {
	rule, match int
	order       int // of precedence in its group

	path   pathKind
	text   string // the path, the expression, the prefix without "/" at its end, or the method of an RPC
	isRPC  bool   // the path must be that of an RPC
	regex  *pattern
	method string
	lane   string
	counts [3]int // of conditions by kind
	fields []condition

	after, before time.Time
	percent       bool
	threshold     uint64 // in units of 1/2^64
	salt          uint64
	split         *split
}

// failure is the first condition of a candidate that a call does not meet.
type failure uint8

const (
	noFailure failure = iota
	failedPath
	failedMethod
	failedLane
	failedField
	failedRegex
	failedTime
	failedPercent
)

// check returns the first condition that the call does not meet, and which of the fields it is about, when service and path
// fit but for regular expressions.
func check[P string | []byte](c *candidate, q *call, path P) (f failure, field int) {
	if c.isRPC && !q.isRPC {
		return failedPath, 0
	}
	if c.method != "" && c.method != q.method() {
		return failedMethod, 0
	}
	if c.lane != "" && c.lane != q.Lane {
		return failedLane, 0
	}
	if !c.after.IsZero() && q.Now.Before(c.after) || !c.before.IsZero() && !q.Now.Before(c.before) {
		return failedTime, 0
	}
	for i := range c.fields {
		if !c.fields[i].met(q) {
			return failedField, i
		}
	}
	if c.regex != nil && (len(path) > maxPath || !fits(c.regex, path)) {
		return failedRegex, 0
	}
	if c.percent && !c.drawn(q) {
		return failedPercent, 0
	}
	return noFailure, 0
}

// newCandidate compiles a match of a rule that was found to be valid.
func newCandidate(r *Rule, rule, match int, patterns map[string]*pattern) *candidate {
	m := r.match(match)
	c := &candidate{rule: rule, match: match, method: m.Method, lane: m.Lane, path: anyPath, after: m.After, before: m.Before}
	switch p := m.Path; {
	case p.Exact != "":
		c.path, c.text = exactPath, p.Exact
	case p.Regex != "":
		c.path, c.text, c.regex = regexPath, p.Regex, patterns[p.Regex]
	case p.Prefix != "":
		c.path, c.text = prefixPath, strings.TrimSuffix(p.Prefix, "/")
	case m.RPC.Service != "" && m.RPC.Method != "":
		c.path, c.text = exactPath, "/"+m.RPC.Service+"/"+m.RPC.Method
	case m.RPC.Service != "":
		c.path, c.text, c.isRPC = prefixPath, "/"+m.RPC.Service, true
	case m.RPC.Method != "":
		c.path, c.text, c.isRPC = methodPath, m.RPC.Method, true
	}
	for k, fields := range [...][]Field{onHeader: m.Headers, onQuery: m.Query, onCookie: m.Cookies} {
		c.counts[k] = len(fields)
		for i, f := range fields {
			d := condition{kind: kind(k), field: i, name: f.Name, value: f.Value, prefix: f.Prefix, regex: patterns[f.Regex], negated: f.Not}
			if d.kind == onHeader {
				d.name = textproto.CanonicalMIMEHeaderKey(f.Name)
			}
			c.fields = append(c.fields, d)
		}
	}
	if m.Percent != nil && *m.Percent < 100 {
		c.percent, c.threshold = true, uint64(*m.Percent/100*(1<<64))
	}
	c.salt = mix(uint64(rule)<<8 | uint64(match))
	c.split = newSplit(r, m)
	return c
}

// compare puts the candidates of a group in the order of precedence.
func (c *candidate) compare(d *candidate) int {
	return cmp.Or(
		cmp.Compare(c.path, d.path),
		cmp.Compare(len(d.text), len(c.text)),
		first(c.isRPC, d.isRPC),
		first(c.method != "", d.method != ""),
		cmp.Compare(d.counts[onHeader], c.counts[onHeader]),
		cmp.Compare(d.counts[onQuery], c.counts[onQuery]),
		cmp.Compare(d.counts[onCookie], c.counts[onCookie]),
		first(c.lane != "", d.lane != ""),
		first(c.timed(), d.timed()),
		first(c.percent, d.percent),
		cmp.Compare(c.rule, d.rule),
		cmp.Compare(c.match, d.match),
	)
}

// first puts the one that has something before the one that has not.
func first(has, other bool) int {
	switch {
	case has == other:
		return 0
	case has:
		return -1
	}
	return 1
}

func (c *candidate) timed() bool { return !c.after.IsZero() || !c.before.IsZero() }

// catchAll reports whether every call to the service fits.
func (c *candidate) catchAll() bool {
	return c.path == anyPath && c.method == "" && len(c.fields) == 0 && c.lane == "" && !c.timed() && !c.percent
}

package routing

import (
	"errors"
	"fmt"
	"net/textproto"
	"slices"
	"strings"
)

// maxMistakes is how many mistakes are told: enough for a person, and not so many that they fill the memory.
const maxMistakes = 100

// checker collects the mistakes in one list of rules.
type checker struct {
	at   string // the rule being checked
	errs []error
	more int // mistakes that are not in errs

	matches, conditions int
	scans               int                 // conditions on query and cookies
	patterns            map[string]*pattern // valid ones
	regexes             int                 // conditions with one
	length              int                 // of their texts
	slow                int                 // instructions of those that are no automaton
}

func (c *checker) fail(field, format string, args ...any) {
	if len(c.errs) == maxMistakes {
		c.more++
		return
	}
	if field != "" {
		field = "." + field
	}
	c.errs = append(c.errs, fmt.Errorf("%s%s: %s", c.at, field, fmt.Sprintf(format, args...)))
}

func (c *checker) err() error {
	if c.more > 0 {
		return errors.Join(append(slices.Clone(c.errs), fmt.Errorf("routes: %d more mistakes", c.more))...)
	}
	return errors.Join(c.errs...)
}

// atMost reports whether n is within a limit.
func (c *checker) atMost(field string, n, limit int, what string) bool {
	if n > limit {
		c.fail(field, "%d %s, at most %d are allowed", n, what, limit)
	}
	return n <= limit
}

// totals checks what all rules have between them.
func (c *checker) totals() {
	c.atMost("", c.matches, maxAllMatches, "matches in all")
	c.atMost("", c.conditions, maxConditions, "conditions on headers, query and cookies in all")
	c.atMost("", c.scans, maxScans, "conditions on query and cookies in all")
	c.atMost("", c.regexes, maxRegexes, "regular expressions in all")
	c.atMost("", c.length, maxPatterns, "bytes of regular expressions in all")
	if c.slow > maxSlow {
		c.fail("", "regular expressions that are slow to match become %d instructions in all, at most %d are allowed: those that look "+
			"for word boundaries or ends of lines, or repeat much", c.slow, maxSlow)
	}
}

func (c *checker) rule(r *Rule) {
	c.name("name", r.Name)
	c.name("policy", r.Policy)
	if c.atMost("or", len(r.Or), maxMatches-1, "matches") {
		for i := range r.matches() {
			c.match(matchPath(i), r.match(i))
		}
	}
	c.backends(r)
	c.split(r)
	c.actions(r)
}

// matchPath is where match i of a rule is in it.
func matchPath(i int) string {
	if i == 0 {
		return "match"
	}
	return fmt.Sprintf("or[%d]", i-1)
}

func (c *checker) match(at string, m *Match) {
	c.matches++
	c.name(at+".service", m.Service)
	if s, _ := strings.CutPrefix(m.Service, "*."); strings.Contains(s, "*") || s == "" && m.Service != "" {
		c.fail(at+".service", `%q: "*" may only stand for the first labels, as in "*.example.com"`, m.Service)
	}
	if m.Method != "" && c.token(at+".method", m.Method) && m.Method != strings.ToUpper(m.Method) {
		c.fail(at+".method", "%q must be in upper case", m.Method)
	}
	switch p := m.Path; {
	case p.Exact != "" && p.Prefix != "", p.Regex != "" && (p.Exact != "" || p.Prefix != ""):
		c.fail(at+".path", "exact, prefix and regex exclude each other")
	case p != Path{} && m.RPC != RPC{}:
		c.fail(at+".rpc", "path and rpc exclude each other")
	}
	if m.Method != "" && m.RPC != (RPC{}) {
		c.fail(at+".rpc", "method and rpc exclude each other")
	}
	c.path(at+".path.exact", m.Path.Exact)
	c.path(at+".path.prefix", m.Path.Prefix)
	c.condition(at+".path.regex", m.Path.Regex)
	c.rpc(at+".rpc.service", m.RPC.Service)
	c.rpc(at+".rpc.method", m.RPC.Method)
	c.fields(at+".headers", m.Headers, c.header)
	c.fields(at+".query", m.Query, c.param)
	c.fields(at+".cookies", m.Cookies, c.cookie)
	if !m.After.IsZero() && !m.Before.IsZero() && !m.Before.After(m.After) {
		c.fail(at+".before", "must be later than after")
	}
	c.scans += len(m.Query) + len(m.Cookies)
	c.percent(at+".percent", m.Percent)
	c.name(at+".lane", m.Lane)
}

func (c *checker) fields(at string, fields []Field, name func(at, name string) bool) {
	c.conditions += len(fields)
	if !c.atMost(at, len(fields), maxHeaders, at[strings.LastIndexByte(at, '.')+1:]) {
		return
	}
	for i, f := range fields {
		at := fmt.Sprintf("%s[%d]", at, i)
		name(at+".name", f.Name)
		set := 0
		for _, is := range []bool{f.Value != "", f.Prefix != "", f.Regex != "", f.Present} {
			if is {
				set++
			}
		}
		switch {
		case set == 0:
			c.fail(at, "needs a value, prefix, regex or present")
		case set > 1:
			c.fail(at, "value, prefix, regex and present exclude each other")
		}
		c.value(at+".value", f.Value)
		c.value(at+".prefix", f.Prefix)
		c.condition(at+".regex", f.Regex)
	}
}

// header checks the name of a header that calls can be told apart by.
func (c *checker) header(field, name string) bool {
	if !c.token(field, name) {
		return false
	}
	if unroutable[textproto.CanonicalMIMEHeaderKey(name)] {
		c.fail(field, "%q is not a header that a call can be routed by", name)
		return false
	}
	return true
}

// param checks the name of a parameter of a query.
func (c *checker) param(field, name string) bool {
	switch {
	case name == "":
		c.fail(field, "must not be empty")
	case len(name) > maxName:
		c.fail(field, "%d bytes, at most %d are allowed", len(name), maxName)
	default:
		return c.value(field, name)
	}
	return false
}

// cookie checks the name of a cookie.
func (c *checker) cookie(field, name string) bool { return c.token(field, name) }

// value checks a value that may be empty.
func (c *checker) value(field, s string) bool {
	switch {
	case len(s) > maxValue:
		c.fail(field, "%d bytes, at most %d are allowed", len(s), maxValue)
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
		c.fail(field, "must not hold control characters")
	default:
		return true
	}
	return false
}

// condition checks a regular expression that calls are matched against, and compiles it.
func (c *checker) condition(field, text string) {
	if text == "" {
		return
	}
	if c.regexes++; c.regexes > maxRegexes { // do no more work
		return
	}
	p := c.patterns[text]
	if p == nil {
		if c.length += len(text); len(text) <= maxPattern && c.length > maxPatterns {
			return
		}
		prog := c.regex(field, text)
		if prog == nil {
			return
		}
		p = newPattern(text, prog)
		c.patterns[text] = p
	}
	if p.slow != nil {
		c.slow += p.size
	}
}

func (c *checker) percent(field string, p *float64) {
	if p != nil && !(*p >= 0 && *p <= 100) { // NaN is neither
		c.fail(field, "must be between 0 and 100, got %v", *p)
	}
}

func (c *checker) backends(r *Rule) {
	if !c.atMost("backends", len(r.Backends), maxBackends, "backends") {
		return
	}
	var sum uint64
	for i := range r.Backends {
		b, at := &r.Backends[i], fmt.Sprintf("backends[%d]", i)
		c.service(at+".service", b.Service)
		if b.Weight > maxWeight {
			c.fail(at+".weight", "%d, at most %d is allowed", b.Weight, maxWeight)
		}
		sum += r.share(i)
		c.selection(at+".select", b.Select)
		c.changes(at+".headers", &b.Headers, c.settable)
	}
	if len(r.Backends) > 0 && sum == 0 {
		c.fail("backends", "every weight is 0")
	}
}

// selection checks metadata to select by.
func (c *checker) selection(at string, metadata map[string]string) {
	if !c.atMost(at, len(metadata), maxSelect, "keys") {
		return
	}
	for key, value := range sorted(metadata) {
		if c.param(at, key) {
			c.value(at+"."+key, value)
		}
	}
}

func (c *checker) split(r *Rule) {
	c.name("split.name", r.Split.Name)
	if !c.atMost("split.key", len(r.Split.Key), maxKeys, "keys") {
		return
	}
	drawn := 0 // matches that look for the key before they fit
	for i := range r.matches() {
		if r.match(i).Percent != nil {
			drawn++
		}
	}
	for i, k := range r.Split.Key {
		c.conditions += drawn
		if k.Header == "" {
			c.scans += drawn
		}
		at, set := fmt.Sprintf("split.key[%d]", i), 0
		if k.Header != "" {
			set++
			c.header(at+".header", k.Header)
		}
		if k.Query != "" {
			set++
			c.param(at+".query", k.Query)
		}
		if k.Cookie != "" {
			set++
			c.cookie(at+".cookie", k.Cookie)
		}
		if set != 1 {
			c.fail(at, "needs one of header, query and cookie, got %d", set)
		}
	}
}

package routing

import (
	"cmp"
	"errors"
	"fmt"
	"net/textproto"
	"slices"
	"strings"
)

// Compile checks the rules and builds their table. The rules are copied. No rules make an empty table, which matches
// nothing.
//
// The error joins every mistake, one per line, each with the path of its field: routes[2].match.path.prefix: must
// start with "/". The limits are 1,000 rules, 64 headers and 64 backends in each, 253 bytes for names and methods,
// 1 KiB for paths and header values, and 1,000,000 for weights.
func Compile(rules []Rule) (*Table, error) {
	if len(rules) > maxRules {
		return nil, fmt.Errorf("routes: %d rules, at most %d are allowed", len(rules), maxRules)
	}
	var c checker
	names := make(map[string]int, len(rules))
	for i := range rules {
		c.at = fmt.Sprintf("routes[%d]", i)
		c.rule(&rules[i])
		name := rules[i].Name
		if first, ok := names[name]; ok && name != "" {
			c.fail("name", "%.253q is already the name of routes[%d]", name, first)
		} else {
			names[name] = i
		}
	}
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}

	t := &Table{rules: slices.Clone(rules), groups: make(map[string]*group)}
	for i := range t.rules {
		r := &t.rules[i]
		r.Backends = slices.Clone(r.Backends)
		r.Match.Headers = slices.Clone(r.Match.Headers)
		g := t.groups[r.Match.Service]
		if g == nil {
			g = &group{exact: make(map[string][]candidate), prefix: make(map[string][]candidate), longest: -1}
			t.groups[r.Match.Service] = g
		}
		g.add(r, i)
	}
	for _, g := range t.groups {
		g.sort()
	}
	return t, nil
}

// add files the rule under its path.
func (g *group) add(r *Rule, i int) {
	c := candidate{rule: i, method: r.Match.Method, headers: slices.Clone(r.Match.Headers)}
	for j := range c.headers {
		c.headers[j].Name = textproto.CanonicalMIMEHeaderKey(c.headers[j].Name)
	}
	var sum uint64
	for j := range r.Backends {
		sum += r.share(j)
		c.sums = append(c.sums, sum)
	}
	switch p := r.Match.Path; {
	case p.Exact != "":
		g.exact[p.Exact] = append(g.exact[p.Exact], c)
	case p.Prefix != "":
		key := strings.TrimSuffix(p.Prefix, "/")
		g.prefix[key] = append(g.prefix[key], c)
		g.longest = max(g.longest, len(key))
	default:
		g.rest = append(g.rest, c)
	}
}

// sort puts the candidates of each path in the order of precedence.
func (g *group) sort() {
	order := func(a, b candidate) int {
		if (a.method == "") != (b.method == "") {
			return strings.Compare(b.method, a.method) // the empty one last
		}
		return cmp.Or(len(b.headers)-len(a.headers), a.rule-b.rule)
	}
	for _, cs := range g.exact {
		slices.SortFunc(cs, order)
	}
	for _, cs := range g.prefix {
		slices.SortFunc(cs, order)
	}
	slices.SortFunc(g.rest, order)
}

// checker collects the mistakes in one list of rules.
type checker struct {
	at   string // the rule being checked
	errs []error
}

func (c *checker) fail(field, format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(c.at+"."+field+": "+format, args...))
}

func (c *checker) rule(r *Rule) {
	c.name("name", r.Name)
	c.name("policy", r.Policy)
	c.name("match.service", r.Match.Service)
	if m := r.Match.Method; m != "" && c.token("match.method", m) && m != strings.ToUpper(m) {
		c.fail("match.method", "%q must be in upper case", m)
	}
	if r.Match.Path.Exact != "" && r.Match.Path.Prefix != "" {
		c.fail("match.path", "exact and prefix exclude each other")
	}
	c.path("match.path.exact", r.Match.Path.Exact)
	c.path("match.path.prefix", r.Match.Path.Prefix)
	c.headers(r.Match.Headers)
	c.backends(r)
}

func (c *checker) headers(headers []Header) {
	if len(headers) > maxHeaders {
		c.fail("match.headers", "%d headers, at most %d are allowed", len(headers), maxHeaders)
		return
	}
	names := make(map[string]int, len(headers))
	for i, h := range headers {
		field := fmt.Sprintf("match.headers[%d]", i)
		if c.token(field+".name", h.Name) {
			name := textproto.CanonicalMIMEHeaderKey(h.Name)
			if unroutable[name] {
				c.fail(field+".name", "%q is not a header that a call can be routed by", h.Name)
			}
			if first, ok := names[name]; ok {
				c.fail(field+".name", "%q is already the name of headers[%d]", h.Name, first)
			} else {
				names[name] = i
			}
		}
		switch {
		case h.Value == "" && !h.Present:
			c.fail(field, "needs a value, or present")
		case h.Value != "" && h.Present:
			c.fail(field, "value and present exclude each other")
		case len(h.Value) > maxValue:
			c.fail(field+".value", "%d bytes, at most %d are allowed", len(h.Value), maxValue)
		case strings.ContainsFunc(h.Value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
			c.fail(field+".value", "must not hold control characters")
		}
	}
}

func (c *checker) backends(r *Rule) {
	if len(r.Backends) > maxBackends {
		c.fail("backends", "%d backends, at most %d are allowed", len(r.Backends), maxBackends)
		return
	}
	var sum uint64
	for i, b := range r.Backends {
		field := fmt.Sprintf("backends[%d]", i)
		if b.Service == "" {
			c.fail(field+".service", "must not be empty")
		}
		c.name(field+".service", b.Service)
		if b.Weight > maxWeight {
			c.fail(field+".weight", "%d, at most %d is allowed", b.Weight, maxWeight)
		}
		sum += r.share(i)
	}
	if len(r.Backends) > 0 && sum == 0 {
		c.fail("backends", "every weight is 0")
	}
}

// name checks a name that may be empty.
func (c *checker) name(field, s string) {
	switch {
	case len(s) > maxName:
		c.fail(field, "%d bytes, at most %d are allowed", len(s), maxName)
	case strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }):
		c.fail(field, "%q must be printable ASCII without spaces", s)
	}
}

// token checks an HTTP token (RFC 9110, section 5.6.2), which also keeps pseudo-headers such as ":path" out.
func (c *checker) token(field, s string) bool {
	switch {
	case s == "":
		c.fail(field, "must not be empty")
	case len(s) > maxName:
		c.fail(field, "%d bytes, at most %d are allowed", len(s), maxName)
	case strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune(tokenChars, r) }):
		c.fail(field, "%q is not a valid token", s)
	default:
		return true
	}
	return false
}

// ValidHeader reports whether there can be a header of that name that tells calls apart: it is a token (RFC 9110), it
// does not speak about a connection, and net/http keeps it in http.Header.
func ValidHeader(name string) bool {
	return new(checker).token("", name) && !unroutable[textproto.CanonicalMIMEHeaderKey(name)]
}

const tokenChars = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

func (c *checker) path(field, s string) {
	switch {
	case s == "":
	case len(s) > maxPath:
		c.fail(field, "%d bytes, at most %d are allowed", len(s), maxPath)
	case s[0] != '/':
		c.fail(field, `must start with "/"`)
	case formOf(s) != plain:
		c.fail(field, `%q must not hold an empty, "." or ".." segment, any of ; \ ? # %% or a control character`, s)
	}
}

// unroutable has the hop-by-hop headers (RFC 9110, section 7.6.1), which speak about a connection and not about the
// call, and the headers that net/http keeps outside http.Header, so that a condition on them would never be met.
var unroutable = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Proxy-Authenticate": true, "Proxy-Authorization": true,
	"Proxy-Connection": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
	"Content-Length": true, "Host": true,
}

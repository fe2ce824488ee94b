package istio

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/zerohop/zerohop/routing"
)

// maxMatches bounds what a VirtualService can cost: matches are compared with each other.
const maxMatches = 2000

// firstWins adds matches to rules so that of those that fit a call the first one has the highest precedence in package routing.
// It returns false if that takes too many of them.
func firstWins(rules [][]routing.Match) bool {
	n := 0
	for _, matches := range rules {
		n += len(matches)
	}
	for i := len(rules) - 1; i >= 0; i-- {
		for _, a := range slices.Clone(rules[i]) {
			for _, later := range rules[i+1:] {
				for _, b := range later {
					if n > maxMatches {
						return false
					}
					if precedence(&b, &a) >= 0 {
						continue
					}
					if both, ok := intersection(&a, &b); ok {
						rules[i] = append(rules[i], both)
						n++
					}
				}
			}
		}
	}
	return n <= maxMatches
}

// precedence is negative if package routing takes a before b.
func precedence(a, b *routing.Match) int {
	pa, la := path(&a.Path)
	pb, lb := path(&b.Path)
	return cmp.Or(
		cmp.Compare(host(b.Service), host(a.Service)),
		cmp.Compare(pa, pb),
		cmp.Compare(lb, la),
		cmp.Compare(one(b.Method), one(a.Method)),
		cmp.Compare(len(b.Headers), len(a.Headers)),
		cmp.Compare(len(b.Query), len(a.Query)),
	)
}

// host is the greater the more specific a host is.
func host(service string) int {
	switch {
	case service == "":
		return 0
	case service[0] == '*':
		return len(service)
	}
	return 1 << 20
}

func path(p *routing.Path) (kind, length int) {
	switch {
	case p.Exact != "":
		return 0, 0 // another path does not fit the same call
	case p.Regex != "":
		return 1, len(p.Regex)
	case p.Prefix != "":
		return 2, len(strings.TrimSuffix(p.Prefix, "/"))
	}
	return 3, 0
}

func one(s string) int { return min(1, len(s)) }

// intersection returns a match for the calls that fit both, which comes before b or is at its level, and false if no call fits both.
// It may also fit further calls that fit a.
func intersection(a, b *routing.Match) (routing.Match, bool) {
	c := *a
	switch {
	case covers(a.Service, b.Service):
		c.Service = b.Service
	case !covers(b.Service, a.Service):
		return c, false
	}
	if a.Method != "" && b.Method != "" && a.Method != b.Method {
		return c, false
	}
	c.Method = cmp.Or(a.Method, b.Method)
	switch p := &c.Path; {
	case *p == routing.Path{}:
		*p = b.Path
	case b.Path.Exact != "":
		if !fits(p, b.Path.Exact) {
			return c, false
		}
		*p = b.Path
	case b.Path.Prefix != "" && p.Prefix != "":
		if !fits(p, b.Path.Prefix) && !fits(&b.Path, p.Prefix) {
			return c, false
		}
		if len(b.Path.Prefix) > len(p.Prefix) {
			*p = b.Path
		}
	case b.Path.Regex != "" && p.Exact == "": // an expression as long as the other one comes first for its rule
		if p.Prefix != "" {
			*p = routing.Path{Regex: regexp.QuoteMeta(strings.TrimSuffix(p.Prefix, "/")) + "(?:/.*)?"}
		}
		for len(p.Regex) < len(b.Path.Regex) {
			p.Regex += "(?:)"
		}
	}
	c.Headers, c.Query = union(a.Headers, b.Headers), union(a.Query, b.Query)
	return c, true
}

// covers reports whether every call to narrow is one to wide.
func covers(wide, narrow string) bool {
	return wide == narrow || wide == "" || wide[0] == '*' && strings.HasSuffix(narrow, wide[1:])
}

// fits reports whether a path fits the condition, an expression by the whole of it.
func fits(p *routing.Path, s string) bool {
	switch {
	case p.Exact != "":
		return p.Exact == s
	case p.Prefix != "":
		prefix := strings.TrimSuffix(p.Prefix, "/")
		return strings.TrimSuffix(s, "/") == prefix || strings.HasPrefix(s, prefix+"/")
	case p.Regex != "":
		r, err := regexp.Compile(`\A(?:` + p.Regex + `)\z`)
		return err == nil && r.MatchString(s)
	}
	return true
}

func union(a, b []routing.Field) []routing.Field {
	all := slices.Clone(a)
	for _, f := range b {
		if !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	return all
}

package routing

import (
	"fmt"
	"iter"
	"maps"
	"net/textproto"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"time"
)

// actions checks what a rule does with calls.
func (c *checker) actions(r *Rule) {
	c.pathRewrite(r)
	w := &r.Rewrite
	if h := w.Host; len(h) > maxName+len(":65535") || strings.ContainsFunc(h, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`/\?#@,;"<>%*`, r) }) {
		c.fail("rewrite.host", "%.64q is not a host", h)
	}
	c.changes("rewrite.query", &w.Query, c.param)
	c.changes("rewrite.request", &w.Request, c.settable)
	c.changes("rewrite.response", &w.Response, c.settable)
	if c.atMost("mirrors", len(r.Mirrors), maxMirrors, "mirrors") {
		for i := range r.Mirrors {
			c.mirror(fmt.Sprintf("mirrors[%d]", i), &r.Mirrors[i])
		}
	}
	c.fault(&r.Fault)
	c.response(r)
}

// pathRewrite checks Rewrite.Path.
func (c *checker) pathRewrite(r *Rule) {
	p, set := &r.Rewrite.Path, 0
	for _, is := range []bool{p.Full != "", p.Prefix != nil, p.Regex != ""} {
		if is {
			set++
		}
	}
	if set > 1 {
		c.fail("rewrite.path", "full, prefix and regex exclude each other")
	}
	c.path("rewrite.path.full", p.Full)
	if p.Prefix != nil {
		c.path("rewrite.path.prefix", *p.Prefix)
	}
	for i := range min(r.matches(), maxMatches) {
		if m := r.match(i); set > 0 && m.RPC != (RPC{}) {
			c.fail("rewrite.path", "%s.rpc is for gRPC, where the path names the method", matchPath(i))
		} else if p.Prefix != nil && m.Path.Prefix == "" {
			c.fail("rewrite.path.prefix", "%s.path has no prefix that it could replace", matchPath(i))
		}
	}
	switch {
	case p.Regex != "":
		c.length += len(p.Regex)
		if c.length > maxPatterns { // do no more work
			break
		}
		if c.value("rewrite.path.replacement", p.Replacement) && c.regex("rewrite.path.regex", p.Regex) != nil {
			c.replacement(p)
		}
	case p.Replacement != "":
		c.fail("rewrite.path.replacement", "belongs to a regex, but there is none")
	}
}

// replacement checks that what a replacement refers to is in the expression. "$1x" refers to a group of the name 1x, which is
// easily overlooked.
func (c *checker) replacement(p *PathRewrite) {
	re, _ := syntax.Parse(p.Regex, syntax.Perl)
	names := re.CapNames()
	for rest := p.Replacement; ; {
		_, after, ok := strings.Cut(rest, "$")
		if !ok {
			return
		}
		rest = strings.TrimPrefix(after, "$")
		if rest != after { // "$$" is a dollar
			continue
		}
		name, braced := after, strings.HasPrefix(after, "{")
		if braced {
			if name, rest, ok = strings.Cut(after[1:], "}"); !ok {
				c.fail("rewrite.path.replacement", `"${" without "}"`)
				return
			}
		} else {
			end := strings.IndexFunc(after, func(r rune) bool {
				return r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
			})
			if end >= 0 {
				name = after[:end]
			}
			rest = after[len(name):]
		}
		n, err := strconv.Atoi(name)
		if err == nil && n >= 0 && n < len(names) || err != nil && name != "" && slices.Contains(names, name) {
			continue
		}
		c.fail("rewrite.path.replacement", "there is no group %.64q in the regex; a dollar is written $$", name)
	}
}

// changes checks a change of headers or parameters.
func (c *checker) changes(at string, h *Headers, name func(field, name string) bool) {
	if !c.atMost(at, len(h.Set)+len(h.Add)+len(h.Remove), maxChanges, "changes") {
		return
	}
	c.values(at+".set", h.Set, name)
	c.values(at+".add", h.Add, name)
	for i, n := range h.Remove {
		name(fmt.Sprintf("%s.remove[%d]", at, i), n)
	}
}

// values checks names and their values. Two names that are one would take effect in any order.
func (c *checker) values(at string, values map[string]string, name func(field, name string) bool) {
	first := make(map[string]string, len(values))
	for n, v := range sorted(values) {
		if !name(at, n) {
			continue
		}
		c.value(at+"."+n, v)
		key := n
		if !strings.Contains(at, ".query.") {
			key = textproto.CanonicalMIMEHeaderKey(n)
		}
		if other, ok := first[key]; ok {
			c.fail(at, "%q and %q are one header", other, n)
		}
		first[key] = n
	}
}

func (c *checker) mirror(at string, m *Mirror) {
	c.service(at+".service", m.Service)
	c.selection(at+".select", m.Select)
	c.percent(at+".percent", m.Percent)
	c.within(at+".maxBody", m.MaxBody, maxMirrored)
	c.within(at+".maxInFlight", m.MaxInFlight, maxCopies)
	c.duration(at+".timeout", m.Timeout, maxCopyTime)
}

func (c *checker) fault(f *Fault) {
	c.duration("fault.delay", f.Delay, maxDelay)
	c.percent("fault.delayPercent", f.DelayPercent)
	if f.Abort != 0 && (f.Abort < 400 || f.Abort > 599) {
		c.fail("fault.abort", "must be a status from 400 to 599, got %d", f.Abort)
	}
	c.code("fault.abortCode", f.AbortCode)
	c.percent("fault.abortPercent", f.AbortPercent)
	c.within("fault.maxActive", f.MaxActive, maxFaults)
}

func (c *checker) response(r *Rule) {
	p := r.Response
	if p == nil {
		return
	}
	if len(r.Backends) > 0 {
		c.fail("response", "backends and response exclude each other")
	}
	if len(r.Mirrors) > 0 {
		c.fail("response", "mirrors and response exclude each other")
	}
	if p.Status != 0 && (p.Status < 200 || p.Status > 599) {
		c.fail("response.status", "must be a status from 200 to 599, got %d", p.Status)
	}
	c.code("response.code", p.Code)
	for i := range min(r.matches(), maxMatches) {
		if p.Code == 0 && p.Status < 300 && r.match(i).RPC != (RPC{}) {
			c.fail("response.code", "must be set: %s.rpc is for gRPC, which has no fixed replies", matchPath(i))
		}
	}
	if c.atMost("response.headers", len(p.Headers), maxChanges, "headers") {
		c.values("response.headers", p.Headers, c.settable)
	}
	c.atMost("response.body", len(p.Body), maxResponse, "bytes")
}

// within checks a number that has a default at 0.
func (c *checker) within(field string, n, limit int) {
	if n < 0 || n > limit {
		c.fail(field, "must be between 0 and %d, got %d", limit, n)
	}
}

// duration checks a time that has a default at 0.
func (c *checker) duration(field string, d, limit time.Duration) {
	if d < 0 || d > limit {
		c.fail(field, "must be between 0 and %v, got %v", limit, d)
	}
}

// code checks a gRPC code.
func (c *checker) code(field string, code uint32) {
	if code > maxCode {
		c.fail(field, "must be between 0 and %d, got %d", maxCode, code)
	}
}

// sorted yields a map in the order of its keys, so that mistakes come in one order.
func sorted(m map[string]string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !yield(key, m[key]) {
				return
			}
		}
	}
}

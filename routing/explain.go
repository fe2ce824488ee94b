package routing

import (
	"fmt"
	"strings"
)

// Explanation says why a call comes under a rule.
type Explanation struct {
	// Rule, Match and Backend are those of the Decision.
	Rule    int `json:"rule"`
	Match   int `json:"match"`
	Backend int `json:"backend"`
	// Steps are all other matches, in the order of precedence, and why the call does not come under each. Those for other services
	// are at the end, in the order of the rules.
	Steps []Step `json:"steps,omitempty"`
	// Why says how the backend was found.
	Why string `json:"why,omitempty"`
}

// Step is a match that a call does not come under.
type Step struct {
	Rule  int `json:"rule"`
	Match int `json:"match"`
	// Name is that of the rule.
	Name string `json:"name,omitempty"`
	// Why is the first condition that the call does not meet, and what it has instead, or that another match comes before. Values of
	// Authorization and cookies are not shown.
	Why string `json:"why"`
}

// Explain routes a call as Route does and says why. It is for people, not for each call.
func (t *Table) Explain(r *Request, random uint64) Explanation {
	if t == nil {
		return Explanation{Rule: -1, Match: -1, Backend: -1}
	}
	q := call{Request: r, random: random}
	winner := t.route(&q)
	e := Explanation{Rule: -1, Match: -1, Backend: -1}
	path, readable := readPath(r.Path)
	served := make(map[[2]int]bool)
	add := func(rule, match int, why string) {
		e.Steps = append(e.Steps, Step{rule, match, t.rules[rule].Name, why})
	}
	for g := range t.groupsOf(r.Service) {
		for _, c := range g.all {
			served[[2]int{c.rule, c.match}] = true
			if c == winner {
				e.Rule, e.Match, e.Backend, e.Why = c.rule, c.match, c.split.backend(&q), c.split.why(&q)
				continue
			}
			why := c.why(&q, path, readable)
			if why == "" && e.Rule >= 0 {
				why = "fits, but another match comes before it"
			}
			add(c.rule, c.match, why)
		}
	}
	for i := range t.rules {
		for j := range t.rules[i].matches() {
			if !served[[2]int{i, j}] {
				add(i, j, fmt.Sprintf("service: %.64q is not %s", r.Service, t.rules[i].match(j).Service))
			}
		}
	}
	return e
}

// readPath returns a decoded path. readable is false if it is ambiguous.
func readPath(path string) (decoded string, readable bool) {
	if path == "" {
		path = "/"
	}
	if formOf(path) == ambiguous {
		return path, false
	}
	buf := make([]byte, len(path))
	return string(buf[:decode(buf, path)]), true
}

// why says why the call does not fit, nothing if it does.
func (c *candidate) why(q *call, path string, readable bool) string {
	fits := true
	switch c.path {
	case exactPath:
		fits = path == c.text
	case prefixPath:
		fits = strings.HasPrefix(path+"/", c.text+"/")
	case methodPath:
		fits = method(path) == c.text
	}
	switch {
	case c.path != anyPath && !readable:
		return fmt.Sprintf("path: %.64q is ambiguous", path)
	case !fits:
		return fmt.Sprintf("path: %.64q is not %.64q", path, c.text)
	}
	switch f, i := check(c, q, path); f {
	case failedPath:
		return fmt.Sprintf("path: %.64q is not that of an RPC", path)
	case failedMethod:
		return fmt.Sprintf("method: %.64q is not %s", q.method(), c.method)
	case failedLane:
		return fmt.Sprintf("lane: %.64q is not %s", q.Lane, c.lane)
	case failedField:
		return c.fields[i].why(q)
	case failedRegex:
		return fmt.Sprintf("path: %.64q does not fit %.64q", path, c.text)
	case failedTime:
		return fmt.Sprintf("time: %v is not within the bounds", q.Now)
	case failedPercent:
		return fmt.Sprintf("percent: not among %.4g %% of the calls", float64(c.threshold)/(1<<64)*100)
	}
	return ""
}

// why says why the call does not meet the condition.
func (c *condition) why(q *call) string {
	part, value := "headers", ""
	switch c.kind {
	case onQuery:
		raw, ok := q.param(c.name)
		if !ok {
			return fmt.Sprintf("query[%d]: the query is ambiguous", c.field)
		}
		buf := make([]byte, len(raw))
		part, value = "query", string(buf[:decodeParam(buf, raw)])
	case onCookie:
		if _, ok := q.cookie(c.name); !ok {
			return fmt.Sprintf("cookies[%d]: there are too many cookies", c.field)
		}
		part, value = "cookies", "(not shown)"
	default:
		if value = q.header(c.name); c.name == "Authorization" || c.name == "Cookie" {
			value = "(not shown)"
		}
	}
	return fmt.Sprintf("%s[%d]: %s is %.64q", part, c.field, c.name, value)
}

// why says how backend finds the backend.
func (s *split) why(q *call) string {
	switch _, keyed := s.key(q); {
	case len(s.sums) == 0:
		return "no backends: the call stays with the service"
	case len(s.sums) == 1:
		return "the only backend"
	case keyed:
		return "by the key of the call"
	}
	return "at random by weight"
}

package routing

import (
	"fmt"
	"slices"
	"strings"
)

// Compile checks the rules and builds their table. The rules are copied. No rules make an empty table, which matches
// nothing.
//
// The error joins every mistake, one per line, each with the path of its field: routes[2].or[0].path.prefix: must
// start with "/". Mistakes beyond the first 100 are only counted.
//
// The limits are 1,000 rules with 4,000 matches and 8,000 conditions on headers, query and cookies between them, of which 1,000 on
// query and cookies; a key of a split counts as one for each match with a percentage. Further: 64 matches,
// 64 backends and 8 mirrors in a rule; 64 headers, 64 parameters and 64 cookies in a match; 64 names in a change of headers; 253
// bytes for names and methods; 1 KiB for paths and values; 1,000,000 for weights.
//
// Regular expressions are those of package regexp. There may be 1,000 in a table with 64 KiB between them; one has at most
// 1 KiB and 1,000 instructions. Most become an automaton; those that do not, because they look for word boundaries or ends of
// lines or would become too large (".*a.{20}"), have at most 1,000 instructions in a table between them. What is longer than 1 KiB
// fits none. So one call takes at most 10 ms, whatever the rules. Rules that exact values tell apart are looked up, however many
// they are. Those of one service and path that anything else tells apart are looked at one by one, at about 30 ns each.
func Compile(rules []Rule) (*Table, error) {
	if len(rules) > maxRules {
		return nil, fmt.Errorf("routes: %d rules, at most %d are allowed", len(rules), maxRules)
	}
	c := checker{patterns: make(map[string]*pattern)}
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
	c.at = "routes"
	c.totals()
	if len(c.errs) > 0 {
		return nil, c.err()
	}

	t := &Table{groups: make(map[string]*group), wildcards: make(map[string]*group)}
	for i := range rules {
		t.rules = append(t.rules, rules[i].clone())
	}
	for i := range t.rules {
		r := &t.rules[i]
		for j := range r.matches() {
			d := newCandidate(r, i, j, c.patterns)
			g := t.group(r.match(j).Service)
			g.all = append(g.all, d)
			t.timed = t.timed || d.timed()
		}
		t.paths = append(t.paths, newPathRewrite(r))
	}
	for _, groups := range []map[string]*group{t.groups, t.wildcards} {
		for _, g := range groups {
			g.file()
		}
	}
	return t, nil
}

// group returns the group for the service of a match, made if there is none.
func (t *Table) group(service string) *group {
	groups := t.groups
	if suffix, ok := strings.CutPrefix(service, "*"); ok {
		groups, service = t.wildcards, suffix
		t.longest = max(t.longest, len(suffix))
	}
	g := groups[service]
	if g == nil {
		g = &group{}
		groups[service] = g
	}
	return g
}

// file sorts the candidates and files them under their paths.
func (g *group) file() {
	slices.SortFunc(g.all, (*candidate).compare)
	var lists [anyPath + 1]map[string][]*candidate
	for i, c := range g.all {
		c.order = i
		text := c.text
		if c.path == regexPath { // all of them have to be looked at
			text = ""
		}
		if lists[c.path] == nil {
			lists[c.path] = make(map[string][]*candidate)
		}
		lists[c.path][text] = append(lists[c.path][text], c)
	}
	var nodes [anyPath + 1]map[string]*node
	for kind, texts := range lists {
		nodes[kind] = make(map[string]*node, len(texts))
		for text, list := range texts {
			nodes[kind][text] = newNode(list, make(map[feature]bool))
		}
	}
	g.exact, g.prefix, g.method = nodes[exactPath], nodes[prefixPath], nodes[methodPath]
	g.regex, g.any = nodes[regexPath][""], nodes[anyPath][""]
	for prefix := range g.prefix {
		g.lengths = append(g.lengths, len(prefix))
	}
	slices.Sort(g.lengths)
	slices.Reverse(g.lengths)
	g.lengths = slices.Compact(g.lengths)
}

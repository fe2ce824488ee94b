package routing

import "strings"

// Shadow is a match that no call comes under.
type Shadow struct {
	// Rule and Match say which it is; see Decision.
	Rule, Match int
	// ByRule and ByMatch are a match that comes before it for every call that it fits. Both are -1 if it fits no call at all, because
	// its conditions exclude each other or its Percent is 0.
	ByRule, ByMatch int
}

// Shadowed returns the matches that no call comes under, in the order of the rules. It sees those that a single other match takes
// everything from, and none that several do so only together; what it returns is always so.
func (t *Table) Shadowed() []Shadow {
	if t == nil {
		return nil
	}
	found := make(map[[2]int]Shadow)
	for _, groups := range []map[string]*group{t.groups, t.wildcards} {
		for _, g := range groups {
			for i, c := range g.all {
				if c.impossible() {
					found[[2]int{c.rule, c.match}] = Shadow{c.rule, c.match, -1, -1}
					continue
				}
				for j := i - 1; j >= 0; j-- {
					d := g.all[j]
					if d.path != c.path || len(d.text) != len(c.text) { // those of the same path come right before
						break
					}
					if d.covers(c) {
						found[[2]int{c.rule, c.match}] = Shadow{c.rule, c.match, d.rule, d.match}
						break
					}
				}
			}
		}
	}
	var list []Shadow
	for i := range t.rules {
		for j := range t.rules[i].matches() {
			if s, ok := found[[2]int{i, j}]; ok {
				list = append(list, s)
			}
		}
	}
	return list
}

// impossible reports whether the conditions exclude each other. It does not see all that do.
func (c *candidate) impossible() bool {
	if c.percent && c.threshold == 0 {
		return true
	}
	for i := range c.fields {
		for j := range c.fields {
			if a, b := &c.fields[i], &c.fields[j]; i != j && a.kind == b.kind && a.name == b.name && a.excludes(b) {
				return true
			}
		}
	}
	return false
}

// excludes reports whether no value meets both conditions on it.
func (a *condition) excludes(b *condition) bool {
	switch {
	case a.negated:
		return false
	case a.value != "":
		return !holds(b, a.value)
	case a.prefix != "" && b.prefix != "" && !b.negated:
		return !strings.HasPrefix(a.prefix, b.prefix) && !strings.HasPrefix(b.prefix, a.prefix)
	}
	return b.negated && b.present()
}

// covers reports whether every call that fits d fits c as well, where both have the same service and path.
func (c *candidate) covers(d *candidate) bool {
	if c.percent || c.text != d.text || c.isRPC && !d.isRPC || c.method != "" && c.method != d.method || c.lane != "" && c.lane != d.lane {
		return false
	}
	if !c.after.IsZero() && d.after.Before(c.after) || !c.before.IsZero() && (d.before.IsZero() || d.before.After(c.before)) {
		return false
	}
	for i := range c.fields {
		if !d.implies(&c.fields[i]) {
			return false
		}
	}
	return true
}

// implies reports whether a call that fits the candidate meets the condition.
func (c *candidate) implies(is *condition) bool {
	for i := range c.fields {
		if f := &c.fields[i]; f.kind == is.kind && f.name == is.name && f.implies(is) {
			return true
		}
	}
	return false
}

// implies reports whether a value that meets a meets b.
func (a *condition) implies(b *condition) bool {
	if a.negated == b.negated && a.value == b.value && a.prefix == b.prefix && a.regex == b.regex {
		return true
	}
	switch {
	case a.negated && a.present(): // there is no value
		return holds(b, "")
	case a.negated:
		return false
	case a.value != "":
		return holds(b, a.value)
	case a.prefix != "" && b.prefix != "":
		if b.negated {
			return !strings.HasPrefix(a.prefix, b.prefix) && !strings.HasPrefix(b.prefix, a.prefix)
		}
		return strings.HasPrefix(a.prefix, b.prefix)
	}
	return b.present() && !b.negated
}

func (a *condition) present() bool { return a.value == "" && a.prefix == "" && a.regex == nil }

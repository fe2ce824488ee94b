package routing

import (
	"slices"
	"strings"
)

// Services returns the services that rules name, in a match, as a backend or as a mirror, sorted. Wildcards are not among them; see
// Covers.
func (t *Table) Services() []string {
	if t == nil {
		return nil
	}
	var names []string
	for i := range t.rules {
		r := &t.rules[i]
		for j := range r.matches() {
			if s := r.match(j).Service; s != "" && !strings.HasPrefix(s, "*.") {
				names = append(names, s)
			}
		}
		for _, b := range r.Backends {
			names = append(names, b.Service)
		}
		for _, m := range r.Mirrors {
			names = append(names, m.Service)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Covers reports whether a rule names the service in its match, if only by a wildcard.
func (t *Table) Covers(service string) bool {
	if t == nil || service == "" {
		return false
	}
	if t.groups[service] != nil {
		return true
	}
	for suffix := range t.suffixes(service) {
		if t.wildcards[suffix] != nil {
			return true
		}
	}
	return false
}

// groupsOf yields the groups that a call to the service is looked up in, in the order of precedence.
func (t *Table) groupsOf(service string) func(yield func(*group) bool) {
	return func(yield func(*group) bool) {
		if g := t.groups[service]; g != nil && service != "" && !yield(g) {
			return
		}
		for suffix := range t.suffixes(service) {
			if g := t.wildcards[suffix]; g != nil && !yield(g) {
				return
			}
		}
		if g := t.groups[""]; g != nil {
			yield(g)
		}
	}
}

// Reachable returns the services that calls to the service, or copies of them, may go to, sorted: the backends with a weight and
// the mirrors of each rule that may match, and the service itself unless rules send every call elsewhere.
func (t *Table) Reachable(service string) []string {
	if t == nil {
		return []string{service}
	}
	names, caught := t.reachable(service)
	if !caught {
		names = append(names, service)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// reachable also reports whether the rules leave no call to the service itself.
func (t *Table) reachable(service string) (names []string, caught bool) {
	seen := make(map[int]bool)
	for g := range t.groupsOf(service) {
		for _, c := range g.all {
			r := &t.rules[c.rule]
			if !seen[c.rule] {
				seen[c.rule] = true
				for j, b := range r.Backends {
					if r.share(j) > 0 {
						names = append(names, b.Service)
					}
				}
				for _, m := range r.Mirrors {
					names = append(names, m.Service)
				}
				if len(r.Backends) == 0 && r.Response == nil {
					names = append(names, service)
				}
			}
			if c.catchAll() {
				return names, true
			}
		}
	}
	return names, false
}

package vet

import (
	"fmt"

	"github.com/zerohop/zerohop/routing"
)

// matches returns those of a rule, and their fields.
func matches(rule *routing.Rule) (list []routing.Match, fields []string) {
	list, fields = append(list, rule.Match), append(fields, ".match")
	for i, m := range rule.Or {
		list, fields = append(list, m), append(fields, fmt.Sprintf(".or[%d]", i))
	}
	return list, fields
}

// reachable looks at whether calls can come under rule i. See routing.Table.Shadowed for what it
// does not see.
func (r *runner) reachable(d *Document, i int, at finder) {
	list, fields := matches(&d.Spec.Routes[i])
	covered, rule, by := 0, -1, 0
	for k := range list {
		m := &list[k]
		if !m.Before.IsZero() && !r.now.IsZero() && !m.Before.After(r.now) {
			covered++
			at(routeExpired, Warning, fields[k]+".before", "its time was over at %s: remove it, or move before", m.Before.UTC().Format("2006-01-02 15:04:05Z"))
			continue
		}
		if m.Percent != nil && *m.Percent == 0 {
			covered++
			at(routeUnreachable, Warning, fields[k]+".percent", "it is for 0 %% of the calls: remove it, or raise percent")
			continue
		}
		if s, ok := r.shadowed(d, i, k); ok {
			covered++
			if s.ByRule < 0 {
				at(routeUnreachable, Warning, fields[k], "its conditions exclude each other: no call meets all of them")
			} else if s.ByRule != i {
				rule, by = s.ByRule, k
			}
		}
	}
	if covered == len(list) && rule >= 0 {
		at(routeUnreachable, Warning, fields[by], "%s takes all calls that it is for and comes before it: remove one of them, or make this match narrower", ruleName(&d.Spec.Routes[rule], rule))
	}
}

// shadowed returns what takes all calls from match k of rule i. ok is false if nothing is known to.
func (r *runner) shadowed(d *Document, i, k int) (by routing.Shadow, ok bool) {
	shadows, known := r.shadows[d]
	if !known {
		if t, err := table(d); err == nil {
			shadows = t.Shadowed()
		}
		if r.shadows == nil {
			r.shadows = map[*Document][]routing.Shadow{}
		}
		r.shadows[d] = shadows
	}
	for _, s := range shadows {
		if s.Rule == i && s.Match == k {
			return s, true
		}
	}
	return routing.Shadow{}, false
}

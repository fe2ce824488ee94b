package zerohop

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/zerohop/zerohop/routing"
)

// spot tells the targets of a generation apart, such that the same ones of another are found.
type spot struct {
	upstream *upstream
	route    string // identity of the rule
	selects  string // metadata that the backend of the rule asks for
}

// heritage are targets of rules by where they are, and without the metadata one of each rule and service.
type heritage struct{ targets, rules map[spot]*target }

func (h *heritage) add(at spot, t *target) {
	if h.targets == nil {
		h.targets, h.rules = map[spot]*target{}, map[spot]*target{}
	}
	if _, ok := h.targets[at]; !ok {
		h.targets[at] = t
	}
	at.selects = ""
	if _, ok := h.rules[at]; !ok {
		h.rules[at] = t
	}
}

// heritage returns the targets that there are so far.
func (g *generation) heritage() (h heritage) {
	for i, list := range g.backends {
		for _, t := range list {
			h.add(g.spotOf(t.service, i, t.backend), t)
		}
	}
	for _, s := range g.known() {
		if list := s.byRule.Load(); list != nil {
			for i := range *list {
				if t := (*list)[i].Load(); t != nil {
					h.add(g.spotOf(s, i, nil), t)
				}
			}
		}
	}
	return h
}

func (g *generation) spotOf(s *service, rule int, b *routing.Backend) spot {
	at := spot{upstream: s.upstream, route: g.ids[rule]}
	if b != nil {
		for _, k := range slices.Sorted(maps.Keys(b.Select)) {
			at.selects += strconv.Quote(k) + strconv.Quote(b.Select[k])
		}
	}
	return at
}

// target returns the target for a rule and a backend of x.to. Backends of a rule that lead to the same service share limits.
func (x *succession) target(s *service, rule, backend int) *target {
	t := x.to.target(s, rule, backend)
	at := x.to.spotOf(s, rule, t.backend)
	group := at
	group.selects = ""
	like := x.heritage.rules[group]
	t.inherit(x.heritage.targets[at], like, x.to.path(rule), x.reset)
	if x.heritage.rules == nil {
		x.heritage = heritage{map[spot]*target{}, map[spot]*target{}}
	}
	x.heritage.rules[group] = t
	return t
}

// takeOver makes those targets of rules without backends that there were before.
func (x *succession) takeOver(services map[string]*service) {
	if x.from == nil {
		return
	}
	rules := map[string]int{}
	for i, id := range x.to.ids {
		if len(x.to.rules[i].Backends) == 0 {
			rules[id] = i
		}
	}
	for key, old := range x.from.known() {
		list, s := old.byRule.Load(), services[key]
		if list == nil || s == nil || s.upstream != old.upstream {
			continue
		}
		fresh := make([]atomic.Pointer[target], len(x.to.rules))
		for i := range *list {
			if rule, ok := rules[x.from.ids[i]]; ok && (*list)[i].Load() != nil {
				fresh[rule].Store(x.target(s, rule, -1))
			}
		}
		s.byRule.Store(&fresh)
	}
}

// path returns where the spec has a rule, for people.
func (g *generation) path(rule int) string {
	if name := g.rules[rule].Name; name != "" {
		return "routes." + name
	}
	return fmt.Sprintf("routes[%d]", rule)
}

// identities returns what the rules are known by in other generations: their names, or else what they match. Rules that match the
// same are counted.
func identities(rules []routing.Rule) []string {
	ids, seen := make([]string, len(rules)), map[string]int{}
	for i := range rules {
		r := &rules[i]
		id := "=" + r.Name
		if r.Name == "" {
			text, _ := json.Marshal(append([]routing.Match{r.Match}, r.Or...)) // plain data
			id = string(text)
			if n := seen[id]; n > 0 {
				id += strings.Repeat("'", n)
			}
			seen[string(text)]++
		}
		ids[i] = id
	}
	return ids
}

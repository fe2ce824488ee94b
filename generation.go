package zerohop

import (
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/zerohop/zerohop/routing"
)

// generation is what one Spec makes of the mesh. A call loads the present one once, and all that it uses is of that. It does not
// change, but for services that it does not name, which are added when calls name them.
type generation struct {
	number   uint64
	spec     Spec
	rules    []routing.Rule                      // with the names of services in lower case
	ids      []string                            // of rules, the same in other generations
	table    *routing.Table                      // of rules; nil if there are none
	backends [][]*target                         // by rule and backend
	actions  []*actions                          // by rule; nil for those without
	services atomic.Pointer[map[string]*service] // by name in lower case
	laned    bool                                // the lane of a call can matter to where it goes
	flat     map[string]string                   // of the spec; of updates alone, nil until one needs it
}

// succession is how one generation takes over from another.
type succession struct {
	mesh     *Mesh
	from     *generation // nil for the first one
	heritage heritage    // of the targets of from
	to       *generation
	resets   []string
	fresh    []*upstream // that from does not have
	gone     []*upstream // that to does not have
	renewed  []*service  // with endpoints that are balanced or checked otherwise
}

// succeed makes the generation of a valid spec, which it keeps, after another, which may be nil. Nothing is done by it that calls
// could notice. m.mu is held, or there are no calls yet.
func (m *Mesh) succeed(from *generation, spec Spec, table *routing.Table) *succession {
	g := &generation{number: 1, spec: spec, rules: spec.rules(), table: table, laned: spec.laned()}
	g.ids = identities(g.rules)
	x := &succession{mesh: m, from: from, to: g}
	old := map[string]*service{}
	if from != nil {
		g.number, old, x.heritage = from.number+1, from.known(), from.heritage()
	}
	services := map[string]*service{}
	for name, p := range g.names() {
		key := strings.ToLower(name)
		services[key] = x.service(old[key], name, p, true)
	}
	for key, s := range old {
		if now := services[key]; now != nil && now.upstream == s.upstream {
			continue
		} else if now == nil && (!s.named && !s.retired || s.lives()) {
			services[key] = x.service(s, s.name, g.spec.complete(Policy{}), false)
			continue
		}
		x.gone = append(x.gone, s.upstream)
		x.reset("services."+s.name, "is no longer known")
	}
	acting := map[string]*actions{}
	if from != nil {
		for i, a := range from.actions {
			acting[from.ids[i]] = a
		}
	}
	g.backends = make([][]*target, len(g.rules))
	for i := range g.rules {
		r := &g.rules[i]
		g.actions = append(g.actions, newActions(g, i, services, acting[g.ids[i]]))
		list := make([]*target, len(r.Backends))
		for j := range r.Backends {
			list[j] = x.target(services[r.Backends[j].Service], i, j)
		}
		g.backends[i] = list
	}
	x.takeOver(services)
	g.services.Store(&services)
	slices.Sort(x.resets)
	x.resets = slices.Compact(x.resets)
	return x
}

// reset notes that something loses what it had learned.
func (x *succession) reset(path, what string) {
	if x.from != nil {
		x.resets = append(x.resets, path+": "+what)
	}
}

// lives reports whether a service that the spec no longer names goes on as one that calls name: one whose name is that of a host
// does not, nor does one that nobody uses, unless an operator has done something to it.
func (s *service) lives() bool {
	return isLabel(s.name) && (s.busy() || s.operations.count.Load() > 0 || seconds(s.mesh.now())-s.used.Load() < int64(forgetAfter/time.Second))
}

// forgetAfter is how long a service goes on that the spec no longer names, after the last call to it.
const forgetAfter = 5 * time.Minute

// known returns the services there are, by name in lower case. The map is read-only.
func (g *generation) known() map[string]*service { return *g.services.Load() }

// names returns the services that the spec names, as they are written there, and their policies.
func (g *generation) names() map[string]Policy {
	names, keys := map[string]Policy{}, map[string]bool{}
	add := func(name string) {
		if key := strings.ToLower(name); !keys[key] {
			keys[key] = true
			names[name] = g.spec.complete(g.spec.Services[name])
		}
	}
	for name := range g.spec.Services {
		add(name)
	}
	for i := range g.rules {
		r := &g.rules[i]
		for _, m := range append([]routing.Match{r.Match}, r.Or...) {
			if m.Service != "" && !strings.HasPrefix(m.Service, "*.") {
				add(m.Service)
			}
		}
		for j := range r.Backends {
			add(r.Backends[j].Service)
		}
		for j := range r.Mirrors {
			add(r.Mirrors[j].Service)
		}
	}
	for name, p := range maps.Clone(names) {
		for _, to := range g.spec.fallbacks(name, p) {
			add(to)
		}
	}
	return names
}

// mirrorsOf adds the services to list that may get copies of calls to the named one.
func (g *generation) mirrorsOf(name string, list []string) []string {
	fits := func(m *routing.Match) bool {
		wild, ok := strings.CutPrefix(m.Service, "*")
		return m.Service == "" || m.Service == name || ok && strings.HasSuffix(name, wild)
	}
	for i := range g.rules {
		r := &g.rules[i]
		if !fits(&r.Match) && !slices.ContainsFunc(r.Or, func(m routing.Match) bool { return fits(&m) }) {
			continue
		}
		for j := range r.Mirrors {
			if to := strings.ToLower(r.Mirrors[j].Service); !slices.Contains(list, to) {
				list = append(list, to)
			}
		}
	}
	return list
}

// reachable returns the services that calls to the named one, or copies of them, can go to.
func (g *generation) reachable(name string) []string {
	list := g.table.Reachable(name)
	for _, at := range list {
		p, written := Policy{}, at
		if s := g.known()[at]; s != nil {
			p, written = s.policy, s.name
		} else {
			p = g.spec.complete(p)
		}
		for _, to := range g.spec.fallbacks(written, p) {
			if !slices.Contains(list, to) {
				list = append(list, to)
			}
		}
	}
	return g.mirrorsOf(name, list)
}

// unneeded returns the services, by name in lower case, whose endpoints no call needs: rules answer all of them (routing.Response).
// Those that Spec.Services names are looked up all the same.
func (g *generation) unneeded() map[string]bool {
	var list map[string]bool
	for i := range g.rules {
		r := &g.rules[i]
		if r.Response == nil {
			continue
		}
		if list == nil {
			list = map[string]bool{}
		}
		for _, m := range append([]routing.Match{r.Match}, r.Or...) {
			list[strings.ToLower(m.Service)] = true
		}
	}
	if list == nil {
		return nil
	}
	for key := range g.known() {
		for _, to := range g.reachable(key) {
			delete(list, strings.ToLower(to))
		}
	}
	for i := range g.rules {
		for j := range g.rules[i].Mirrors {
			delete(list, strings.ToLower(g.rules[i].Mirrors[j].Service))
		}
	}
	for name := range g.spec.Services {
		delete(list, strings.ToLower(name))
	}
	return list
}

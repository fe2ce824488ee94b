package console

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/zerohop/zerohop/routing"
)

// routesView returns the routes of the meshes, those that have to do with a service if that is not empty.
func (c *Console) routesView(mesh, service string) RoutesView {
	v := RoutesView{Time: time.Now().UTC(), Routes: []RouteView{}}
	for _, o := range c.open() {
		if mesh != "" && o.id != mesh {
			continue
		}
		spec, _ := o.specNow()
		counted := *o.collector.routes.Load()
		c.mu.Lock()
		for i := range spec.Routes {
			if r := &spec.Routes[i]; service == "" || concerns(r, service) {
				v.Routes = append(v.Routes, routeView(o.id, i, r, counted))
			}
		}
		c.mu.Unlock()
	}
	return v
}

// concerns reports whether calls to the service can come under the rule, or be sent there by it.
func concerns(r *routing.Rule, service string) bool {
	fits := func(s string) bool {
		s = name(s)
		return s == "" || strings.EqualFold(s, service) || strings.HasPrefix(s, "*.") && strings.HasSuffix(strings.ToLower(service), strings.ToLower(s[1:]))
	}
	if fits(r.Match.Service) || slices.ContainsFunc(r.Or, func(m routing.Match) bool { return fits(m.Service) }) {
		return true
	}
	return slices.ContainsFunc(r.Backends, func(b routing.Backend) bool { return strings.EqualFold(name(b.Service), service) }) ||
		slices.ContainsFunc(r.Mirrors, func(m routing.Mirror) bool { return strings.EqualFold(name(m.Service), service) })
}

// routeView returns a rule with what was counted of it. Console.mu is locked.
func routeView(mesh string, index int, r *routing.Rule, counted map[routeKey]*routeCount) RouteView {
	v := RouteView{Mesh: mesh, Index: index, Name: name(r.Name), Policy: name(r.Policy), Matches: []string{matchText(&r.Match)}, Actions: actionTexts(r), Backends: []BackendView{}}
	for i := range r.Or {
		v.Matches = append(v.Matches, matchText(&r.Or[i]))
	}
	sums := make([]traffics, max(len(r.Backends), 1))
	var whole traffics
	for key, t := range counted {
		if int(key.rule) != index || t.name != r.Name {
			continue
		}
		i := max(int(key.backend), 0)
		if i >= len(sums) {
			continue
		}
		sums[i].add(t)
		whole.add(t)
	}
	v.Now, v.Calls = whole.traffic(), whole.calls
	var weights uint64
	for _, b := range r.Backends {
		weights += uint64(b.Weight)
	}
	for i := range sums {
		b := BackendView{Share: 1, Got: -1, Now: sums[i].traffic(), Calls: sums[i].calls}
		b.Now.P50, b.Now.P99 = 0, 0
		if whole.all > 0 {
			b.Got = share(sums[i].all, whole.all)
		}
		if i < len(r.Backends) {
			is := &r.Backends[i]
			b.Service, b.Weight = name(is.Service), is.Weight
			if weights > 0 {
				b.Share = share(uint64(is.Weight), weights)
			}
			for _, k := range slices.Sorted(maps.Keys(is.Select)) {
				b.Select = append(b.Select, Pair{name(k), value(k, is.Select[k])})
			}
		}
		v.Backends = append(v.Backends, b)
	}
	return v
}

// traffics adds up counts of routes.
type traffics struct {
	all, failed, calls uint64
	d                  time.Duration
	latency            counts
}

func (t *traffics) add(r *routeCount) {
	all, failed, d := r.history.last(window)
	t.all, t.failed, t.d = t.all+all, t.failed+failed, max(t.d, d)
	t.calls += r.all + uint64(r.tally.all.Load()-r.seenAll)
	came := r.seen.since(&r.first)
	t.latency.add(&came)
}

func (t *traffics) traffic() Traffic {
	p50, p99 := t.latency.quantiles()
	return Traffic{Rate: rate(t.all, t.d), Errors: share(t.failed, t.all), P50: round(millis(p50)), P99: round(millis(p99))}
}

// matchText says which calls a match is for. What headers, parameters and cookies must be is left out: it may be a secret.
func matchText(m *routing.Match) string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if m.Service != "" {
		add("service %s", name(m.Service))
	}
	if m.Method != "" {
		add("method %s", name(m.Method))
	}
	switch p := m.Path; {
	case p.Exact != "":
		add("path %s", text(p.Exact))
	case p.Prefix != "":
		add("path %s/*", strings.TrimSuffix(text(p.Prefix), "/"))
	case p.Regex != "":
		add("path like %s", text(p.Regex))
	}
	if m.RPC != (routing.RPC{}) {
		add("RPC %s/%s", orAny(m.RPC.Service), orAny(m.RPC.Method))
	}
	for what, fields := range map[string][]routing.Field{"header": m.Headers, "parameter": m.Query, "cookie": m.Cookies} {
		for _, f := range fields {
			not := ""
			if f.Not {
				not = "not "
			}
			add("%s%s %s", not, what, name(f.Name))
		}
	}
	slices.Sort(parts[min(len(parts), 1):])
	if m.Lane != "" {
		add("lane %s", name(m.Lane))
	}
	if !m.After.IsZero() {
		add("after %s", m.After.UTC().Format(time.RFC3339))
	}
	if !m.Before.IsZero() {
		add("before %s", m.Before.UTC().Format(time.RFC3339))
	}
	if m.Percent != nil {
		add("%g%% of them", *m.Percent)
	}
	if len(parts) == 0 {
		return "any call"
	}
	return strings.Join(parts, ", ")
}

func orAny(s string) string {
	if s == "" {
		return "*"
	}
	return name(s)
}

// actionTexts says what a rule does beside sharing out calls.
func actionTexts(r *routing.Rule) []string {
	var list []string
	add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	percent := func(p *float64) string {
		if p == nil {
			return ""
		}
		return fmt.Sprintf(" %g%%", *p)
	}
	for _, m := range r.Mirrors {
		add("mirror%s to %s", percent(m.Percent), name(m.Service))
	}
	f := &r.Fault
	if f.Delay > 0 {
		add("delay%s by %v", percent(f.DelayPercent), f.Delay)
	}
	if f.Abort > 0 || f.AbortCode > 0 {
		add("abort%s with %d", percent(f.AbortPercent), max(f.Abort, int(f.AbortCode)))
	}
	if f.ByHeader {
		add("faults on request")
	}
	if p := r.Rewrite.Path; p.Full != "" || p.Prefix != nil || p.Regex != "" {
		add("rewrite the path")
	}
	if r.Rewrite.Host != "" {
		add("rewrite the host")
	}
	if h := r.Rewrite; len(h.Query.Set)+len(h.Query.Add)+len(h.Query.Remove)+len(h.Request.Set)+len(h.Request.Add)+len(h.Request.Remove)+len(h.Response.Set)+len(h.Response.Add)+len(h.Response.Remove) > 0 {
		add("change headers or parameters")
	}
	if r.Response != nil {
		add("answer with %d", max(r.Response.Status, int(r.Response.Code)))
	}
	return list
}

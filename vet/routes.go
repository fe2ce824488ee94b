package vet

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/routing"
)

// routes looks at the rules of a document, and at what they name.
func (r *runner) routes(d *Document) {
	used := map[string]bool{}
	for i := range d.Spec.Routes {
		rule := &d.Spec.Routes[i]
		used[rule.Policy] = true
		at := func(id string, s Severity, field, format string, args ...any) {
			r.findings = append(r.findings, Finding{ID: id, Severity: s, Document: d.Name, Path: fmt.Sprintf("routes[%d]%s", i, field), Message: ruleName(rule, i) + ": " + fmt.Sprintf(format, args...)})
		}
		r.reachable(d, i, at)
		for j, b := range rule.Backends {
			if len(rule.Backends) > 1 && b.Weight == 0 {
				at(backendWithoutCalls, Note, fmt.Sprintf(".backends[%d]", j), "%s has weight 0 and gets no calls: remove it, or give it a weight", b.Service)
			}
		}
		mirrored(rule, at)
		r.split(d, rule, at)
		writes(d, rule, at)
		faulty(rule, at)
		r.fallbackOf(d, rule, at)
	}
	for _, name := range slices.Sorted(maps.Keys(d.Spec.Policies)) {
		if !used[name] {
			r.findings = append(r.findings, Finding{ID: policyUnused, Severity: Warning, Document: d.Name, Path: "policies." + name, Message: fmt.Sprintf("no route names the policy %q: remove it, or name it in a route", name)})
		}
	}
	r.fallbacks(d)
}

type finder func(id string, s Severity, field, format string, args ...any)

func ruleName(rule *routing.Rule, i int) string {
	if rule.Name != "" {
		return fmt.Sprintf("route %q", rule.Name)
	}
	return fmt.Sprintf("routes[%d]", i)
}

// mirrored looks for copies that go where the calls go.
func mirrored(rule *routing.Rule, at finder) {
	targets := rule.Backends
	if len(targets) == 0 && rule.Match.Service != "" {
		targets = []routing.Backend{{Service: rule.Match.Service}}
	}
	for j, m := range rule.Mirrors {
		for k, b := range targets {
			if (len(targets) == 1 || targets[k].Weight > 0) && strings.EqualFold(m.Service, b.Service) && maps.Equal(m.Select, b.Select) {
				percent := 100.0
				if m.Percent != nil {
					percent = *m.Percent
				}
				if percent > 0 {
					at(mirrorToItself, Warning, fmt.Sprintf(".mirrors[%d].service", j), "%s gets %.3g %% of the calls that it gets anyway once more: mirror to another service, or set select", m.Service, percent)
				}
			}
		}
	}
}

// split looks for splits at random of services that have sessions.
func (r *runner) split(d *Document, rule *routing.Rule, at finder) {
	weighted := 0
	for _, b := range rule.Backends {
		if b.Weight > 0 {
			weighted++
		}
	}
	if weighted < 2 || len(rule.Split.Key) > 0 {
		return
	}
	for _, s := range destinations(rule) {
		p := d.Spec.Effective(s, rule.Policy)
		if session := p.Sticky.Cookie.Name + p.Sticky.Header; p.Sticky.Mode == zerohop.On && session != "" {
			kind := "header"
			if p.Sticky.Cookie.Name != "" {
				kind, session = "cookie", p.Sticky.Cookie.Name
			}
			at(splitLosesSessions, Warning, ".split", "%s keeps sessions by the %s %s, and %d backends share calls at random, so a client changes sides with each call: set split.key to that %s", s, kind, session, weighted, kind)
			return
		}
	}
}

// writes looks for routes of methods that are not idempotent and policies that say that they are.
func writes(d *Document, rule *routing.Rule, at finder) {
	for _, m := range append([]routing.Match{rule.Match}, rule.Or...) {
		if m.Method != "POST" && m.Method != "PATCH" {
			continue
		}
		for _, s := range destinations(rule) {
			p := d.Spec.Effective(s, rule.Policy)
			if p.Idempotent != zerohop.On || p.Retry.Attempts < 2 || p.Retry.Mode != zerohop.On && p.Backup.Mode != zerohop.On {
				continue
			}
			at(repeatsWrites, Warning, "", "idempotent: on lets %s calls be sent up to %d times, retries and backups together: leave it out unless %s executes a repeated one once; calls with an Idempotency-Key are repeated anyway", m.Method, p.Retry.Attempts, s)
			return
		}
	}
}

// faulty looks for faults that all users meet.
func faulty(rule *routing.Rule, at finder) {
	f := rule.Fault
	if f.ByHeader || f.Delay == 0 && f.Abort == 0 && f.AbortCode == 0 {
		return
	}
	for _, m := range append([]routing.Match{rule.Match}, rule.Or...) {
		if len(m.Headers)+len(m.Cookies)+len(m.Query) > 0 || m.Lane != "" || !m.After.IsZero() || !m.Before.IsZero() {
			continue
		}
		aborts, delays := percent(f.AbortPercent), percent(f.DelayPercent)
		if f.Abort == 0 && f.AbortCode == 0 {
			aborts = 0
		}
		if f.Delay == 0 {
			delays = 0
		}
		if m.Percent != nil {
			aborts, delays = aborts**m.Percent/100, delays**m.Percent/100
		}
		switch {
		case aborts >= 100:
			at(faultLeftOn, Error, ".fault", "all calls fail with %d: remove the fault, or make it conditional (byHeader, or a match on headers, a lane or the time)", max(f.Abort, int(f.AbortCode)))
			return
		case aborts > 0 || delays > 0:
			at(faultLeftOn, Warning, ".fault", "%.3g %% of all calls fail and %.3g %% wait for %v: remove the fault, or make it conditional (byHeader, or a match on headers, a lane or the time)", aborts, delays, f.Delay)
			return
		}
	}
}

func percent(p *float64) float64 {
	if p == nil {
		return 100
	}
	return *p
}

// fallbackOf looks for a policy that makes a service of a route its own fallback.
func (r *runner) fallbackOf(d *Document, rule *routing.Rule, at finder) {
	f := d.Spec.Policies[rule.Policy].Fallback
	for _, s := range destinations(rule) {
		if f.Mode != zerohop.Off && f.Service != "" && strings.EqualFold(f.Service, s) {
			at(fallbackToItself, Warning, ".policy", "the fallback of policy %q is %s, where the route sends its calls, so they have none: name another service", rule.Policy, f.Service)
		}
	}
}

// fallbacks looks for services that answer for each other.
func (r *runner) fallbacks(d *Document) {
	to := func(name string) string {
		f := d.Spec.Effective(name, "").Fallback
		if f.Mode != zerohop.On || strings.EqualFold(f.Service, name) {
			return ""
		}
		return lower(f.Service)
	}
	if f := d.Spec.Defaults.Fallback; f.Mode != zerohop.Off && f.Service != "" {
		return // who answers for all answers for himself by being left out
	}
	told := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(d.Spec.Services)) {
		way := []string{lower(name)}
		for next := to(name); next != "" && !slices.Contains(way, next); next = to(next) {
			way = append(way, next)
		}
		end := to(way[len(way)-1])
		if end != lower(name) || told[end] {
			continue
		}
		for _, s := range way {
			told[s] = true
		}
		r.findings = append(r.findings, Finding{
			ID: fallbackCycle, Severity: Note, Document: d.Name, Path: "services." + name + ".fallback.service",
			Message: fmt.Sprintf("%s answer for each other (%s): an outage of one is the load of the other, and if both fail each call is made to both. Let one fall back to what does not depend on the other", strings.Join(way, " and "), strings.Join(append(way, end), " -> ")),
		})
	}
}

// mirrors compares copies with what may be under way.
func (r *runner) mirrors(n *network) {
	for _, name := range n.names {
		v := n.services[name]
		copies := map[[2]int]float64{} // per second and process, by rule and mirror
		for _, f := range v.calls {
			if f.rule < 0 {
				continue
			}
			for j, m := range v.doc.Spec.Routes[f.rule].Mirrors {
				copies[[2]int{f.rule, j}] += v.rate * f.times * percent(m.Percent) / 100 / float64(max(v.Instances, 1))
			}
		}
		for k, rate := range copies {
			m := v.doc.Spec.Routes[k[0]].Mirrors[k[1]]
			to := n.services[lower(m.Service)]
			if to == nil {
				continue
			}
			most := m.MaxInFlight
			if most == 0 {
				most = 64
			}
			if busy := rate * to.Latency.P50.Seconds(); busy > float64(most) {
				r.findings = append(r.findings, Finding{
					ID: mirrorDropsCopies, Severity: Note, Document: v.doc.Name, Path: fmt.Sprintf("routes[%d].mirrors[%d]", k[0], k[1]),
					Message: fmt.Sprintf("%s: %.4g copies per second and process that take %v (p50) are %.4g under way, and %d may be, so that some calls are not mirrored: raise maxInFlight, or lower percent", ruleName(&v.doc.Spec.Routes[k[0]], k[0]), rate, to.Latency.P50, busy, most),
				})
			}
		}
	}
}

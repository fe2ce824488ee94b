package vet

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/zerohop/zerohop"
)

// Attempts at the end of a path per call at its beginning. A service has the capacity for a fraction more than its load, so
// four times as much keeps it down once it is; ten times as much takes what is shared down with it.
const (
	muchAmplified = 4
	tooAmplified  = 10
)

// path is a way through the graph.
type path struct {
	steps    []string
	reasons  []string
	fresh    float64 // attempts that the service takes for first ones
	repeated float64 // and those that it knows to be repetitions
	fanOut   float64
}

func (p *path) attempts() float64 { return p.fresh + p.repeated }

// covers reports whether whatever follows the paths, which end at the same service, comes out no worse after q than after p.
func (p *path) covers(q *path) bool {
	return p.fresh >= q.fresh && p.repeated >= q.repeated && p.fanOut >= q.fanOut
}

func (p *path) worse(q *path) bool {
	return p.attempts() > q.attempts() || p.attempts() == q.attempts() && p.fanOut > q.fanOut
}

// amplification looks for the worst path from each entry.
func (n *network) amplification() []Finding {
	var findings []Finding
	done := map[*node]bool{}
	for i, e := range n.graph.Entries {
		v := n.services[strings.ToLower(e.Service)]
		for _, circle := range n.circles(v, nil, done) {
			findings = append(findings, Finding{
				ID: callCycle, Severity: Warning, Document: n.graph.Name, Path: fmt.Sprintf("entries[%d]", i),
				Message: fmt.Sprintf("calls go round: %s. A retry on the way is multiplied with each round: break the circle, or give its calls a policy without retries", circle),
			})
		}
		start := path{steps: []string{v.name}, fresh: max(float64(e.Attempts), 1), fanOut: 1}
		if e.Attempts > 1 {
			start.reasons = []string{fmt.Sprintf("the caller tries %d times", e.Attempts)}
		}
		worst := n.worst(v, start)
		if got := worst.attempts(); got >= muchAmplified {
			severity := Warning
			if got >= tooAmplified {
				severity = Error
			}
			message := fmt.Sprintf("when %s fails, one call becomes %s attempts on it: %s (%s)",
				last(worst.steps), count(got), strings.Join(worst.steps, " -> "), strings.Join(worst.reasons, "; "))
			if worst.fanOut > 1.01 {
				message += fmt.Sprintf("; each request makes %s calls there, so it is %s attempts for one request", count(worst.fanOut), count(got*worst.fanOut))
			}
			findings = append(findings, Finding{
				ID: retryAmplification, Severity: severity, Document: n.graph.Name, Path: fmt.Sprintf("entries[%d]", i),
				Message: message + ". Retry on one level only, keep budgets on, or serve with httpmesh.NewHandler or grpcmesh.Server (server: true), which do not repeat what is a repetition",
			})
		}
	}
	return findings
}

// maxPaths is how many paths to one service are gone on from at a time: those that none of the others covers, the worst first.
// Few services have more than one.
const maxPaths = 16

// worst returns the worst path from a service. It goes on from all services at once, a step at a time, and from the same one
// again only by a path that is worse: there are far too many to follow each. No path meets a service twice.
func (n *network) worst(v *node, start path) path {
	type place struct {
		at *node
		path
	}
	worst, known := start, map[*node][]path{v: {start}}
	for now := []place{{v, start}}; len(now) > 0; {
		var next []place
		for i := range now {
			p := &now[i].path
			if p.worse(&worst) {
				worst = *p
			}
			for _, f := range now[i].at.calls {
				to := n.services[f.use.service]
				if to == nil || f.times == 0 || slices.Contains(p.steps, to.name) {
					continue
				}
				q := now[i].at.step(p, f, to)
				if slices.ContainsFunc(known[to], func(o path) bool { return o.covers(&q) }) {
					continue
				}
				list := append(slices.DeleteFunc(known[to], func(o path) bool { return q.covers(&o) }), q)
				if len(list) > maxPaths {
					slices.SortFunc(list, func(a, b path) int { return cmp.Compare(b.attempts(), a.attempts()) })
					list = list[:maxPaths]
				}
				known[to] = list
				next = append(next, place{to, q})
			}
		}
		now = next
	}
	return worst
}

// step returns the path that goes on from p by a call of v.
func (v *node) step(p *path, f *flow, to *node) path {
	factor, why := f.use.factor()
	loops := max(float64(f.call.Attempts), 1)
	if loops > 1 {
		why += fmt.Sprintf(" and %v tries around it", loops)
	}
	q := path{
		steps:    append(p.steps[:len(p.steps):len(p.steps)], to.name),
		reasons:  p.reasons,
		fresh:    p.fresh * loops,
		repeated: p.repeated * loops,
		fanOut:   p.fanOut * max(f.times, 1),
	}
	if factor*loops > 1 {
		q.reasons = append(p.reasons[:len(p.reasons):len(p.reasons)], fmt.Sprintf("%s: %s attempts, %s", f.use.name(), count(factor*loops), why))
	}
	if !v.Server { // it takes repetitions for first attempts
		q.fresh, q.repeated = q.fresh+q.repeated, 0
	}
	q.repeated += q.fresh * (factor - 1)
	if f.use.p.Propagate != zerohop.On { // they do not say what they are
		q.fresh, q.repeated = q.fresh+q.repeated, 0
	}
	return q
}

// circles returns those that calls of a service lead to, each once. way are the services before it; done are those that were
// looked at.
func (n *network) circles(v *node, way []*node, done map[*node]bool) (list []string) {
	if i := slices.Index(way, v); i >= 0 {
		var names []string
		for _, x := range append(way[i:len(way):len(way)], v) {
			names = append(names, x.name)
		}
		return []string{strings.Join(names, " -> ")}
	}
	if done[v] {
		return nil
	}
	way = append(way[:len(way):len(way)], v)
	for _, f := range v.calls {
		if to := n.services[f.use.service]; to != nil && f.times > 0 {
			list = append(list, n.circles(to, way, done)...)
		}
	}
	done[v] = true
	return list
}

func last(list []string) string { return list[len(list)-1] }

// count writes a number of attempts.
func count(x float64) string {
	if x >= 100 {
		return fmt.Sprintf("%.0f", x)
	}
	return fmt.Sprintf("%.3g", x)
}

package vet

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/routing"
)

// network is a graph with what the Specs make of its calls.
type network struct {
	graph    *Graph
	names    []string // of services, sorted
	services map[string]*node
	findings []Finding
}

// node is a service of a graph, its name in lower case.
type node struct {
	Service
	name  string
	doc   *Document
	calls []*flow
	rate  float64
	busy  bool // its rate is being found
	known bool

	bound   time.Duration
	bounded string
}

// flow is a part of the calls of a service: those to one service under one policy.
type flow struct {
	call  *Call
	rule  int
	times float64 // per request of the client
	use   *use
}

// newNetwork routes the calls of the graph. documents has those there are by name.
func newNetwork(g *Graph, documents map[string]*Document, now time.Time) (*network, error) {
	n := &network{graph: g, services: map[string]*node{}}
	for _, name := range slices.Sorted(maps.Keys(g.Services)) {
		s := g.Services[name]
		key := strings.ToLower(name)
		d := documents[s.Spec]
		if d == nil {
			d = &Document{Name: g.Name}
		}
		n.services[key] = &node{Service: s, name: name, doc: d}
		n.names = append(n.names, key)
	}
	tables := map[*Document]*routing.Table{}
	for _, name := range n.names {
		v := n.services[name]
		if tables[v.doc] == nil {
			t, err := table(v.doc)
			if err != nil {
				return nil, err
			}
			tables[v.doc] = t
		}
		for i := range v.Calls {
			n.route(v, tables[v.doc], i, now)
		}
	}
	for _, name := range n.names {
		n.services[name].rate = n.rateOf(n.services[name])
	}
	n.bound()
	n.weigh()
	return n, nil
}

// route files call i of a service under where it goes.
func (n *network) route(v *node, t *routing.Table, i int, now time.Time) {
	c := &v.Calls[i]
	times := c.Times
	if times == 0 {
		times = 1
	}
	for _, s := range shares(v.doc.Spec.Routes, t, c.request(now)) {
		policy := ""
		if s.rule >= 0 {
			r := t.Rule(s.rule)
			if policy = r.Policy; r.Response != nil {
				continue
			}
		}
		u := newUse(v.doc, v.name, s.Service, policy)
		if v.Spec == "" { // nothing but the graph says anything of it
			u.at = "services." + v.name
		}
		v.calls = append(v.calls, &flow{call: c, rule: s.rule, times: times * s.part, use: u})
		if n.services[s.Service] == nil {
			at, doc := fmt.Sprintf("services.%s.calls[%d].service", v.name, i), n.graph.Name
			if s.rule >= 0 && s.Service != strings.ToLower(c.Service) {
				at, doc = fmt.Sprintf("routes[%d].backends", s.rule), v.doc.Name
			}
			n.findings = append(n.findings, Finding{
				ID: unknownService, Severity: Warning, Document: doc, Path: at,
				Message: fmt.Sprintf("%s calls %q, which is no service of the graph: add it there, or correct the name", v.name, s.Service),
			})
		}
	}
}

// rateOf returns the requests per second of a service, 0 if nobody knows. Calls in a circle do not count.
func (n *network) rateOf(v *node) float64 {
	switch {
	case v.known:
		return v.rate
	case v.busy:
		return 0
	case v.Rate > 0:
		v.rate, v.known = v.Rate, true
		return v.rate
	}
	v.busy = true
	sum := 0.0
	for _, e := range n.graph.Entries {
		if strings.EqualFold(e.Service, v.name) {
			sum += e.Rate
		}
	}
	for _, name := range n.names {
		for _, f := range n.services[name].calls {
			if n.services[f.use.service] == v {
				sum += f.times * n.rateOf(n.services[name])
			}
		}
	}
	v.busy, v.known, v.rate = false, true, sum
	return sum
}

// bound finds the least time that the callers of each service wait for it.
func (n *network) bound() {
	tighten := func(v *node, d time.Duration, by string) bool {
		if v == nil || d <= 0 || v.bound > 0 && v.bound <= d {
			return false
		}
		v.bound, v.bounded = d, by
		return true
	}
	for i, e := range n.graph.Entries {
		tighten(n.services[strings.ToLower(e.Service)], e.Deadline, fmt.Sprintf("entries[%d]", i))
	}
	for changed := true; changed; { // bounds only fall, and there are finitely many
		changed = false
		for _, name := range n.names {
			v := n.services[name]
			for _, f := range v.calls {
				to := n.services[f.use.service]
				if v.bound > 0 && tighten(to, v.bound, v.bounded) {
					changed = true
				}
				if d := least(f.use.p.Timeout, f.use.p.AttemptTimeout); d > 0 && tighten(to, d, v.name) {
					changed = true
				}
			}
		}
	}
}

// least returns the least of the bounds that there are, 0 if there is none.
func least(bounds ...time.Duration) time.Duration {
	d := time.Duration(0)
	for _, b := range bounds {
		if b > 0 && (d == 0 || b < d) {
			d = b
		}
	}
	return d
}

// weigh gives every use its load.
func (n *network) weigh() {
	for _, name := range n.names {
		v := n.services[name]
		all, under := map[string]float64{}, map[[2]string]*load{}
		for _, f := range v.calls {
			all[f.use.service] += v.rate * f.times
			k := [2]string{f.use.service, f.use.policy}
			l := under[k]
			if l == nil {
				l = &load{processes: max(v.Instances, 1), bound: v.bound, bounded: v.bounded, server: v.Server, loops: 1}
				under[k] = l
				if to := n.services[f.use.service]; to != nil {
					l.endpoints, l.latency = to.Instances, to.Latency
				}
			}
			l.rate += v.rate * f.times
			l.loops = max(l.loops, f.call.Attempts)
			if f.call.Unsafe {
				l.unsafe = describe(f.call)
			}
			if !f.call.Unsafe && f.call.Method != "POST" && f.call.Method != "PATCH" {
				l.repeated = true
			}
			f.use.load = l
		}
		for _, f := range v.calls {
			f.use.load.all = all[f.use.service]
		}
	}
}

// describe names a call.
func describe(c *Call) string {
	s := strings.TrimSpace(c.Method + " " + c.Path)
	if s == "" {
		s = "the call"
	}
	return s
}

// uses returns those of all services, each under one policy once.
func (n *network) uses() []*use {
	var list []*use
	for _, name := range n.names {
		seen := map[*load]bool{}
		for _, f := range n.services[name].calls {
			if !seen[f.use.load] {
				seen[f.use.load] = true
				list = append(list, f.use)
			}
		}
	}
	return list
}

// factor returns how many attempts are made for a call while the service fails, with budgets as they are when they have been
// used up, and why.
func (u *use) factor() (float64, string) {
	most := float64(u.attempts())
	if most <= 1 {
		return 1, "no retries"
	}
	b := u.p.Budget
	if b.Mode != zerohop.On {
		return most, "no budget"
	}
	extra, why := b.Ratio, fmt.Sprintf("a budget of %.3g per success", b.Ratio)
	switch b.Kind {
	case "ratio":
		why = fmt.Sprintf("a budget of %.3g per call", b.Ratio)
		if _, rate := u.perProcess(); rate > 0 && b.Floor > 0 {
			extra += b.Floor / rate
			why = fmt.Sprintf("a budget of %.3g per call and %.3g per second, at %.3g calls per second and process", b.Ratio, b.Floor, rate)
		}
	case "concurrent":
		extra = math.Inf(1)
		if b.Ratio < 1 {
			extra = b.Ratio / (1 - b.Ratio) // the share is of all attempts, extra ones included
		}
		why = fmt.Sprintf("a budget of %.3g of the attempts under way", b.Ratio)
		if busy := u.inFlight(); busy > 0 && b.Floor > 0 {
			extra = math.Max(extra, b.Floor/busy)
			why = fmt.Sprintf("a budget of %.3g of the attempts under way, at least %.3g, with %.3g calls in flight per process", b.Ratio, b.Floor, busy)
		}
	}
	return math.Min(most, 1+extra), why
}

// inFlight returns the calls that a process has in flight to the service on average (Little's law), 0 if unknown.
func (u *use) inFlight() float64 {
	if u.load == nil {
		return 0
	}
	_, rate := u.perProcess()
	return rate * u.load.latency.P50.Seconds()
}

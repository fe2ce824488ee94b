package vet

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// use is what a client does to one service under one policy.
type use struct {
	doc     *Document
	client  string // "" if there is no graph
	service string // "" stands for those that the Spec does not name
	policy  string // of the route, "" if it has none
	at      string // the path to name if no field is set
	p       zerohop.Policy
	load    *load // nil if there is no graph
}

// load is what is known of a use from a graph.
type load struct {
	processes int     // of the client
	rate      float64 // calls per second of all processes under the policy; 0 if unknown
	all       float64 // to the service under any policy
	endpoints int     // 0 if unknown
	latency   Latency
	repeated  bool // some calls may be repeated without Policy.Idempotent
	unsafe    string
	loops     int           // attempts around those of zerohop
	bound     time.Duration // that the client has itself, 0 if for ever
	bounded   string        // by whom
	server    bool          // the client knows of bound, and what is a repetition
}

// perProcess returns the calls per second of a process, under the policy and under any; 0 if unknown.
func (u *use) perProcess() (rate, all float64) {
	if u.load == nil {
		return 0, 0
	}
	return u.load.rate / float64(u.load.processes), u.load.all / float64(u.load.processes)
}

func newUse(doc *Document, client, service, policy string) *use {
	layers := doc.Spec.Layers(service, policy)
	at := layers[0].Path
	if strings.HasPrefix(at, "policies.") && strings.HasPrefix(layers[1].Path, "services.") {
		at = layers[1].Path
	}
	return &use{doc: doc, client: client, service: service, policy: policy, at: at, p: doc.Spec.Effective(service, policy)}
}

// origin returns the path of the layer that sets the field, such as "services.orders", and whether it is one of the Spec.
func (u *use) origin(field string) (path string, explicit bool) {
	path = u.doc.Spec.Origin(u.service, u.policy, field)
	return path, path != "" && !strings.HasPrefix(path, "preset ") && path != "built-in"
}

// explicit reports whether the Spec sets the field.
func (u *use) explicit(fields ...string) bool {
	for _, f := range fields {
		if _, ok := u.origin(f); ok {
			return true
		}
	}
	return false
}

// blame returns the path of the first of the fields that the Spec sets, or that of the preset which does.
func (u *use) blame(fields ...string) string {
	for _, f := range fields {
		if path, ok := u.origin(f); ok {
			return path + "." + f
		}
	}
	for _, f := range fields {
		if path, _ := u.origin(f); strings.HasPrefix(path, "preset ") {
			if at, ok := u.origin("preset"); ok {
				return at + ".preset"
			}
		}
	}
	return u.at
}

// name says which calls the use is.
func (u *use) name() string {
	s := u.service
	if s == "" {
		s = "services"
	}
	if u.client != "" {
		s = u.client + " -> " + s
	}
	return s
}

// attempts returns how many attempts a call makes at most, leaving budgets out of account.
func (u *use) attempts() int {
	level := u.p.Criticality.Or(resilience.Critical)
	retries := u.p.Retry.Mode == zerohop.On && level > resilience.Sheddable
	backups := u.p.Backup.Mode == zerohop.On && level > resilience.SheddablePlus
	never := u.p.Idempotent == zerohop.Off || u.load != nil && !u.load.repeated && u.p.Idempotent != zerohop.On
	if never || !retries && !backups {
		return 1
	}
	return u.p.Retry.Attempts
}

// retries reports whether failed attempts are repeated.
func (u *use) retries() bool { return u.p.Retry.Mode == zerohop.On && u.attempts() > 1 }

// declared returns what there is in a document without looking at load: its defaults, its services, and the services of its
// routes under their policies.
func declared(doc *Document) []*use {
	list := []*use{newUse(doc, "", "", "")}
	for _, name := range slices.Sorted(maps.Keys(doc.Spec.Services)) {
		list = append(list, newUse(doc, "", name, ""))
	}
	seen := map[[2]string]bool{}
	for _, r := range doc.Spec.Routes {
		if r.Policy == "" {
			continue
		}
		for _, s := range destinations(&r) {
			if k := [2]string{s, r.Policy}; !seen[k] {
				seen[k] = true
				list = append(list, newUse(doc, "", s, r.Policy))
			}
		}
	}
	return list
}

// destinations returns the services that a rule sends calls to.
func destinations(r *routing.Rule) []string {
	if len(r.Backends) == 0 {
		return []string{strings.ToLower(r.Match.Service)}
	}
	var list []string
	for i, b := range r.Backends {
		if len(r.Backends) == 1 || r.Backends[i].Weight > 0 {
			list = append(list, strings.ToLower(b.Service))
		}
	}
	return list
}

// table compiles the routes of a document. Names of services are in lower case.
func table(doc *Document) (*routing.Table, error) {
	rules := slices.Clone(doc.Spec.Routes)
	for i := range rules {
		r := &rules[i]
		r.Match.Service = strings.ToLower(r.Match.Service)
		r.Or = slices.Clone(r.Or)
		for j := range r.Or {
			r.Or[j].Service = strings.ToLower(r.Or[j].Service)
		}
		r.Backends = slices.Clone(r.Backends)
		for j := range r.Backends {
			r.Backends[j].Service = strings.ToLower(r.Backends[j].Service)
		}
	}
	t, err := routing.Compile(rules)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doc.Name, err)
	}
	return t, nil
}

// share is a part of the calls of a kind.
type share struct {
	rule int // -1 if none
	routing.Backend
	part float64
}

// draws is how many calls are routed to see which part of them comes under a rule for a percentage of calls.
const draws = 2000

type headers map[string]string

func (h headers) Get(name string) string {
	for k, v := range h {
		if strings.EqualFold(k, name) {
			return v
		}
	}
	return ""
}

// request returns what routes see of a call.
func (c *Call) request(now time.Time) *routing.Request {
	path, query, _ := strings.Cut(c.Path, "?")
	method := c.Method
	if method == "" && strings.Count(path, "/") == 2 && strings.Contains(path, ".") {
		method = "POST" // the full name of an RPC
	}
	return &routing.Request{Service: strings.ToLower(c.Service), Method: method, Path: path, Query: query, Header: headers(c.Headers), Now: now}
}

// shares returns where calls go.
func shares(rules []routing.Rule, t *routing.Table, req *routing.Request) []share {
	n := 1
	for i := range rules {
		list, _ := matches(&rules[i])
		if slices.ContainsFunc(list, func(m routing.Match) bool { return m.Percent != nil }) {
			n = draws
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	count := map[int]int{}
	for range n {
		count[t.Route(req, rnd.Uint64()).Rule]++
	}
	var list []share
	for _, rule := range slices.Sorted(maps.Keys(count)) {
		part := float64(count[rule]) / float64(n)
		if rule < 0 || len(t.Rule(rule).Backends) == 0 {
			list = append(list, share{rule, routing.Backend{Service: req.Service}, part})
			continue
		}
		r := t.Rule(rule)
		sum := 0.0
		for _, b := range r.Backends {
			sum += float64(b.Weight)
		}
		for _, b := range r.Backends {
			switch {
			case len(r.Backends) == 1:
				list = append(list, share{rule, b, part})
			case b.Weight > 0:
				list = append(list, share{rule, b, part * float64(b.Weight) / sum})
			}
		}
	}
	return list
}

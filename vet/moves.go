package vet

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/routing"
)

// Move is a kind of calls of which some go elsewhere under another Spec.
type Move struct {
	// Call describes such a call: its service, method, path and what else routes look at.
	Call string `json:"call"`
	// Old and New are where the calls go, the largest part first.
	Old []Part `json:"old"`
	New []Part `json:"new"`
	// Percent is how many of the calls go elsewhere.
	Percent float64 `json:"percent"`
}

// Part is a part of the calls.
type Part struct {
	// To is the service with the metadata that endpoints are selected by, as in "orders{version=2}", or "status 503" of a fixed
	// response.
	To string `json:"to"`
	// Percent is how many calls that is.
	Percent float64 `json:"percent"`
}

// String returns the move in a line: "orders GET /v2: orders 100 % -> orders 90 %, orders-next 10 %".
func (m Move) String() string {
	list := func(parts []Part) string {
		var texts []string
		for _, p := range parts {
			texts = append(texts, fmt.Sprintf("%s %.4g %%", p.To, p.Percent))
		}
		return strings.Join(texts, ", ")
	}
	return fmt.Sprintf("%s: %s -> %s (%.4g %% move)", m.Call, list(m.Old), list(m.New), m.Percent)
}

// Moves returns the calls that go elsewhere under new than under old. It routes by both one call for each match of their rules
// that has no regular expression, and one for each service that they name. Both must be valid. now is the time of the calls, but
// for matches with a time window it is a time within.
func Moves(old, new zerohop.Spec, now time.Time) ([]Move, error) {
	before, err := table(&Document{Spec: old})
	if err != nil {
		return nil, err
	}
	after, err := table(&Document{Spec: new})
	if err != nil {
		return nil, err
	}
	calls := map[string]*routing.Request{}
	var order []string
	add := func(w *routing.Request) {
		key := callName(w)
		if calls[key] == nil {
			calls[key] = w
			order = append(order, key)
		}
	}
	names := append(before.Services(), after.Services()...)
	for _, s := range []zerohop.Spec{old, new} {
		for i := range s.Routes {
			list, _ := matches(&s.Routes[i])
			for k := range list {
				m := &list[k]
				w, ok := example(m)
				if w.Now = within(m, now); ok {
					add(w)
				}
			}
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if !strings.HasPrefix(name, "*.") {
			add(&routing.Request{Service: name, Header: headers{}, Now: now})
		}
	}
	var moves []Move
	for _, key := range order {
		w := calls[key]
		m := Move{Call: key, Old: parts(old.Routes, before, w), New: parts(new.Routes, after, w)}
		if m.Percent = moved(m.Old, m.New); m.Percent > 0 {
			moves = append(moves, m)
		}
	}
	return moves, nil
}

// example returns a call that meets a match and nothing that it does not ask for. It knows none for regular expressions.
func example(m *routing.Match) (w *routing.Request, ok bool) {
	w = &routing.Request{Service: strings.Replace(lower(m.Service), "*", "some", 1), Method: m.Method, Path: m.Path.Exact + m.Path.Prefix, Lane: m.Lane}
	if w.Service == "" {
		w.Service = "some-service"
	}
	if m.RPC != (routing.RPC{}) {
		w.Method, w.Path = "POST", "/"+or(m.RPC.Service, "some.Service")+"/"+or(m.RPC.Method, "Some")
	}
	ok = m.Path.Regex == ""
	value := func(f *routing.Field) string {
		if f.Regex != "" {
			ok = ok && f.Not
		}
		if f.Not || f.Regex != "" {
			return ""
		}
		return or(f.Value+f.Prefix, "some")
	}
	h := headers{}
	for k := range m.Headers {
		if v := value(&m.Headers[k]); v != "" {
			h[m.Headers[k].Name] = v
		}
	}
	var cookies, query []string
	for k := range m.Cookies {
		if v := value(&m.Cookies[k]); v != "" {
			cookies = append(cookies, m.Cookies[k].Name+"="+v)
		}
	}
	for k := range m.Query {
		if v := value(&m.Query[k]); v != "" {
			query = append(query, url.QueryEscape(m.Query[k].Name)+"="+url.QueryEscape(v))
		}
	}
	if len(cookies) > 0 {
		h["Cookie"] = strings.Join(cookies, "; ")
	}
	w.Query, w.Header = strings.Join(query, "&"), h
	return w, ok
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// within returns a time within the window of a match, now if it is one.
func within(m *routing.Match, now time.Time) time.Time {
	if !m.Before.IsZero() && !now.Before(m.Before) {
		now = m.Before.Add(-1)
	}
	if !m.After.IsZero() && now.Before(m.After) {
		now = m.After
	}
	return now
}

// callName describes a call.
func callName(w *routing.Request) string {
	s := w.Service
	for _, word := range []string{w.Method, w.Path} {
		if word != "" {
			s += " " + word
		}
	}
	if w.Query != "" {
		s += "?" + w.Query
	}
	h, _ := w.Header.(headers)
	for _, k := range slices.Sorted(maps.Keys(h)) {
		s += fmt.Sprintf(" with %s: %s", k, h[k])
	}
	if w.Lane != "" {
		s += " in lane " + w.Lane
	}
	return s
}

// parts returns where calls go, the largest part first.
func parts(rules []routing.Rule, t *routing.Table, w *routing.Request) []Part {
	sums := map[string]float64{}
	for _, s := range shares(rules, t, w) {
		to := lower(s.Service)
		if s.rule >= 0 {
			if r := t.Rule(s.rule).Response; r != nil {
				to = fmt.Sprintf("status %d", cmp.Or(r.Status, 200))
			}
		}
		if len(s.Select) > 0 {
			var pairs []string
			for _, k := range slices.Sorted(maps.Keys(s.Select)) {
				pairs = append(pairs, k+"="+s.Select[k])
			}
			to += "{" + strings.Join(pairs, ",") + "}"
		}
		sums[to] += 100 * s.part
	}
	var list []Part
	for to, p := range sums {
		list = append(list, Part{to, math.Round(p*1e4) / 1e4})
	}
	slices.SortFunc(list, func(a, b Part) int { return cmp.Or(cmp.Compare(b.Percent, a.Percent), cmp.Compare(a.To, b.To)) })
	return list
}

// moved returns how many of the calls go elsewhere.
func moved(old, new []Part) float64 {
	sum := 0.0
	for _, n := range new {
		was := 0.0
		for _, o := range old {
			if o.To == n.To {
				was = o.Percent
			}
		}
		sum += max(0, n.Percent-was)
	}
	return math.Round(sum*1e4) / 1e4
}

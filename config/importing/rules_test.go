package importing

import (
	"fmt"
	"strings"
	"testing"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/routing"
)

// status returns what a call to a service is answered with, 0 if it is not answered.
func status(t *testing.T, spec *zerohop.Spec, service, path string) int {
	t.Helper()
	table, err := routing.Compile(spec.Routes)
	if err != nil {
		t.Fatal(err)
	}
	d := table.Route(&routing.Request{Service: service, Method: "GET", Path: path}, 0)
	if d.Rule < 0 || table.Rule(d.Rule).Response == nil {
		return 0
	}
	return table.Rule(d.Rule).Response.Status
}

func TestCloseEndsTheRulesOfEachHost(t *testing.T) {
	exact := routing.Path{Exact: "/x"}
	for _, tt := range []struct {
		name    string
		apart   bool
		matches []routing.Match
		want    map[string]int // of calls that no rule is for
	}{
		{"hosts", false, []routing.Match{{Service: "a", Path: exact}, {Service: "b"}}, map[string]int{"a": 404, "b": 0, "c": 0}},
		{"one host by two rules", false, []routing.Match{{Service: "a", Path: exact}, {Service: "A"}}, map[string]int{"a": 0}},
		{"wildcard beside others", false, []routing.Match{{Service: "a", Path: exact}, {Service: "*.b.c", Path: exact}}, map[string]int{"a": 404, "x.b.c": 404, "b.c": 0}},
		{"wildcard around a host", false, []routing.Match{{Service: "a.b.c", Path: exact}, {Service: "*.b.c"}}, map[string]int{"a.b.c": 0, "x.b.c": 0}},
		{"apart from a wildcard", true, []routing.Match{{Service: "a.b.c", Path: exact}, {Service: "*.b.c"}}, map[string]int{"a.b.c": 404, "x.b.c": 0}},
		{"every call", false, []routing.Match{{Service: "a", Path: exact}, {Path: routing.Path{Exact: "/z"}}}, map[string]int{"a": 0, "b": 0}},
		{"apart from every call", true, []routing.Match{{Service: "a", Path: exact}, {Path: routing.Path{Exact: "/z"}}}, map[string]int{"a": 404, "b": 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spec := zerohop.Spec{}
			m := NewImporter(Options{})
			m.Begin(&Document{})
			rules := NewRules(m, &spec)
			for _, match := range tt.matches {
				rules.Add("", routing.Rule{Name: "r", Match: match, Backends: []routing.Backend{{Service: "to"}}}, zerohop.Policy{})
			}
			rules.Close(tt.apart)
			if err := spec.Validate(); err != nil {
				t.Fatal(err)
			}
			for service, want := range tt.want {
				if got := status(t, &spec, service, "/y"); got != want {
					t.Errorf("a call to %s is answered with %d, want %d", service, got, want)
				}
			}
		})
	}
}

func TestAddSplitsAndNamesRules(t *testing.T) {
	spec := zerohop.Spec{}
	m := NewImporter(Options{})
	m.Begin(&Document{Object: Object{Kind: "Route", Name: "r"}})
	rules := NewRules(m, &spec)
	var matches []routing.Match
	for i := range 130 {
		matches = append(matches, routing.Match{Service: "a", Path: routing.Path{Exact: fmt.Sprintf("/%d", i)}})
	}
	rules.Add("", routing.Rule{Name: "to the \u00fcbel", Match: matches[0], Or: matches[1:]}, zerohop.Policy{Idempotent: zerohop.On})
	rules.Add("spec.bad", routing.Rule{Name: strings.Repeat("n", 300), Match: routing.Match{Service: "b"}, Backends: []routing.Backend{{}}}, zerohop.Policy{})
	rules.Add("spec.worse", routing.Rule{Name: "worse", Match: routing.Match{Path: routing.Path{Regex: "("}}}, zerohop.Policy{})
	if err := spec.Validate(); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range spec.Routes {
		names = append(names, r.Name)
		if _, ok := spec.Policies[r.Policy]; ok != strings.HasPrefix(r.Name, "to") {
			t.Errorf("rule %q has policy %q", r.Name, r.Policy)
		}
	}
	if got, want := strings.Join(names[:3], " "), "to-the--bel to-the--bel#2 to-the--bel#3"; got != want {
		t.Errorf("rules %q, want %q", got, want)
	}
	if len(spec.Routes) != 4 || status(t, &spec, "b", "/") != 500 {
		t.Errorf("got %d rules, and status %d of one with a bad backend, want 4 and 500", len(spec.Routes), status(t, &spec, "b", "/"))
	}
	report, err := m.Finish()
	if err != nil || len(report.Losses) != 2 || report.Losses[0].Severity != Refused {
		t.Errorf("report %v (%v), want 2 refusals", report, err)
	}
}

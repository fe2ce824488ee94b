package vet

import (
	"fmt"
	"strings"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/routing"
)

// Reason says why a call comes under a rule or does not.
type Reason struct {
	// Rule is its name, or its place as in "routes[2]".
	Rule string `json:"rule"`
	// Taken says that the call comes under it.
	Taken bool `json:"taken"`
	// Why is a sentence about its matches.
	Why string `json:"why"`
}

// Explain returns where calls such as r go under a Spec, which must be valid, and what each rule has to do with that. Of calls
// that come under several rules, because one is for a percentage of them, all are taken.
func Explain(spec zerohop.Spec, r *routing.Request) ([]Part, []Reason, error) {
	t, err := table(&Document{Spec: spec})
	if err != nil {
		return nil, nil, err
	}
	taken := map[int]float64{}
	for _, s := range shares(spec.Routes, t, r) {
		taken[s.rule] += 100 * s.part
	}
	e := t.Explain(r, 0)
	whys := make([][]string, len(spec.Routes)) // by match
	for i := range whys {
		whys[i] = make([]string, 1+len(spec.Routes[i].Or))
	}
	for _, s := range e.Steps {
		whys[s.Rule][s.Match] = place(s.Match) + dot(s.Why)
	}
	var reasons []Reason
	for i := range spec.Routes {
		rule := &spec.Routes[i]
		reason := Reason{Rule: or(rule.Name, fmt.Sprintf("routes[%d]", i)), Why: strings.Join(whys[i], "; ")}
		if part, ok := taken[i]; ok || i == e.Rule {
			reason.Taken, reason.Why = true, "takes the call"
			if part < 100 {
				reason.Why = fmt.Sprintf("takes %.4g %% of such calls", part)
			}
			if i == e.Rule {
				reason.Why += fmt.Sprintf(" by %s, %s", place(e.Match), e.Why)
			}
			if rule.Policy != "" {
				reason.Why += ", under policy " + rule.Policy
			}
		}
		reasons = append(reasons, reason)
	}
	return parts(spec.Routes, t, r), reasons, nil
}

// place is where match i of a rule is in it.
func place(i int) string {
	if i == 0 {
		return "match"
	}
	return fmt.Sprintf("or[%d]", i-1)
}

// dot puts what is said of a match behind its place: the name of a condition as a field, other words as such.
func dot(why string) string {
	if field, _, ok := strings.Cut(why, ": "); ok && !strings.Contains(field, " ") {
		return "." + why
	}
	return " " + why
}

package vet

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/zerohop/zerohop/routing"
)

// Config says what is judged.
type Config struct {
	// Documents are the Specs. Names must differ.
	Documents []Document
	// Graph is how services call each other. nil means that nobody knows, and leaves out the checks that need it.
	Graph *Graph
	// Now is the time, for routes with a time window. The zero value means that no window is over.
	Now time.Time
	// Disable are ids of checks that are left out.
	Disable []string
	// Severity is the least that findings must have. Empty means all.
	Severity Severity
}

// Validate reports every mistake in the configuration, that of the Specs and the graph included.
func (c *Config) Validate() error {
	var errs []error
	var names []string
	for i := range c.Documents {
		d := &c.Documents[i]
		if d.Name == "" || slices.Contains(names, d.Name) {
			errs = append(errs, fmt.Errorf("documents[%d].name: must be set and differ from others, got %q", i, d.Name))
		}
		names = append(names, d.Name)
		if err := d.Spec.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", d.Name, err))
		}
	}
	if c.Graph != nil {
		if err := c.Graph.Validate(names); err != nil {
			errs = append(errs, err)
		}
	}
	for i, id := range c.Disable {
		if !slices.ContainsFunc(checks, func(k Check) bool { return k.ID == id }) {
			errs = append(errs, fmt.Errorf("disable[%d]: there is no check %q", i, id))
		}
	}
	if c.Severity != "" && c.Severity.rank() < 0 {
		errs = append(errs, fmt.Errorf(`severity: must be "note", "warning" or "error", got %q`, string(c.Severity)))
	}
	return errors.Join(errs...)
}

// Run returns what is wrong, ordered by document, line and path, and an error if the configuration is not valid. Of findings
// with the same id and field there is one.
func Run(c Config) ([]Finding, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	r := &runner{now: c.Now, judged: map[judged]bool{}}
	documents, locate := map[string]*Document{}, map[string]func(string) (int, int){}
	for i := range c.Documents {
		d := c.Documents[i]
		documents[d.Name], locate[d.Name] = &d, d.Locate
	}
	// What is known of the load says more, so it comes first.
	if c.Graph != nil {
		n, err := newNetwork(c.Graph, documents, c.Now)
		if err != nil {
			return nil, err
		}
		locate[c.Graph.Name] = c.Graph.Locate
		r.findings = append(r.findings, n.findings...)
		r.findings = append(r.findings, n.amplification()...)
		for _, u := range n.uses() {
			r.use(u)
			r.judged[judged{u.doc.Name, u.service, u.policy}] = true
			r.judged[judged{u.doc.Name, "", ""}] = true // its defaults are part of that
		}
		r.network(n)
	}
	for _, name := range slices.Sorted(maps.Keys(documents)) {
		for _, u := range declared(documents[name]) {
			if !r.judged[judged{name, lower(u.service), u.policy}] {
				r.use(u)
			}
		}
		r.routes(documents[name])
	}
	return slices.DeleteFunc(located(r.findings, locate), func(f Finding) bool {
		return slices.Contains(c.Disable, f.ID) || c.Severity != "" && !f.Severity.AtLeast(c.Severity)
	}), nil
}

// runner collects findings.
type runner struct {
	now      time.Time
	findings []Finding
	judged   map[judged]bool // at their load
	shadows  map[*Document][]routing.Shadow
}

// judged is a policy of a document.
type judged struct{ document, service, policy string }

// report files a finding of a use.
func (r *runner) report(u *use, id string, s Severity, path, format string, args ...any) {
	r.findings = append(r.findings, Finding{
		ID: id, Severity: s, Document: u.doc.Name, Path: path, Message: u.name() + ": " + fmt.Sprintf(format, args...),
	})
}

// use runs the checks of one policy.
func (r *runner) use(u *use) {
	r.timeouts(u)
	r.budget(u)
	r.ejection(u)
	r.breakers(u)
	r.limits(u)
	r.balance(u)
}

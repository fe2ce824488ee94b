package vet

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/zerohop/zerohop"
)

// Severity is how bad a finding is. Its values are those of SARIF.
type Severity string

const (
	// Note is something that has no effect, or may surprise.
	Note Severity = "note"
	// Warning is something that will hurt some day, or does not do what it says.
	Warning Severity = "warning"
	// Error is something that fails calls, or that makes an outage of a fault.
	Error Severity = "error"
)

// rank orders severities; unknown ones come before all others.
func (s Severity) rank() int { return slices.Index([]Severity{Note, Warning, Error}, s) }

// AtLeast reports whether s is as bad as other, or worse.
func (s Severity) AtLeast(other Severity) bool { return s.rank() >= other.rank() }

// Finding is something that is wrong with a Spec, or with a graph.
type Finding struct {
	// ID is that of the Check.
	ID string `json:"id"`
	// Severity is that of this finding; those of one check may differ.
	Severity Severity `json:"severity"`
	// Document is Document.Name, or Graph.Name.
	Document string `json:"document"`
	// Line and Column are where the field is, counted from 1; 0 means that it is not known.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
	// Path is that of the field, such as "services.orders.retry.attempts".
	Path string `json:"path"`
	// Message is a sentence with the numbers, and what to do.
	Message string `json:"message"`
}

// String returns the finding on a line: "orders.yaml:12:7: warning: services.orders.timeout: ... [attempt-timeout-too-long]".
func (f Finding) String() string {
	at := f.Document
	if f.Line > 0 {
		at += fmt.Sprintf(":%d", f.Line)
		if f.Column > 0 {
			at += fmt.Sprintf(":%d", f.Column)
		}
	}
	return fmt.Sprintf("%s: %s: %s: %s [%s]", at, f.Severity, f.Path, f.Message, f.ID)
}

// Document is a Spec and where it comes from.
type Document struct {
	// Name is the name of the file. Graph.Services refer to it.
	Name string
	// Spec is what it says. It must be valid.
	Spec zerohop.Spec
	// Locate returns where a field is, counted from 1, and 0 if that is not known. nil means that it never is.
	Locate func(path string) (line, column int)
}

// located completes findings and puts them in order: by document, line, path and id. Of those that say the same thing one stays.
func located(findings []Finding, locate map[string]func(string) (int, int)) []Finding {
	type key struct{ id, document, path string }
	seen := map[key]bool{}
	findings = slices.DeleteFunc(findings, func(f Finding) bool {
		k := key{f.ID, f.Document, f.Path}
		drop := seen[k]
		seen[k] = true
		return drop
	})
	for i := range findings {
		f := &findings[i]
		if at := locate[f.Document]; at != nil {
			f.Line, f.Column = at(f.Path)
		}
	}
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Document, b.Document), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Path, b.Path), cmp.Compare(a.ID, b.ID))
	})
	return findings
}

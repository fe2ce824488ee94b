package importing

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity says how much of a field is lost.
type Severity string

const (
	// Ignored is a field without an effect on calls that zerohop makes, or none that it could have.
	Ignored Severity = "ignored"
	// Approximated is a field that has become something similar.
	Approximated Severity = "approximated"
	// Refused is a field that something depends on: a match, a rule or an object is left out or answers with an error.
	Refused Severity = "refused"
)

// Object is where in the input something stands.
type Object struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	// Line is where the object begins, from 1. 0 means that it is not known.
	Line int `json:"line,omitempty"`
}

// String returns kind and name.
func (o Object) String() string {
	name := o.Name
	if o.Namespace != "" {
		name = o.Namespace + "/" + o.Name
	}
	return strings.TrimSpace(o.Kind + " " + name)
}

// Loss is a field that was not carried over as it stands.
type Loss struct {
	Object Object `json:"object"`
	// Path is that of the field in the object: "spec.rules[0].timeouts.request".
	Path string `json:"path"`
	// Line is where the field stands. 0 means that it is not known.
	Line     int      `json:"line,omitempty"`
	Severity Severity `json:"severity"`
	// Note says what is lost, and what takes its place.
	Note string `json:"note"`
}

// String returns a line for people.
func (l Loss) String() string {
	return fmt.Sprintf("%d: %s: %s: %s: %s", l.Line, l.Object, l.Path, l.Severity, l.Note)
}

// Service is a service that the Spec names. The resolver has to find it by this name.
type Service struct {
	Name string `json:"name"`
	// Ref is what the name stands for, and Ports those that it was referred to by.
	Ref   Ref   `json:"ref"`
	Ports []int `json:"ports,omitempty"`
}

// String returns the name, what it stands for, and the ports.
func (s Service) String() string {
	text := fmt.Sprintf("%s: %s", s.Name, s.Ref)
	for i, p := range s.Ports {
		if i == 0 {
			text += ", port"
		}
		text += fmt.Sprintf(" %d", p)
	}
	return text
}

// Report says what became of the input.
type Report struct {
	// Imported are the objects that were read, also if parts of them were lost.
	Imported []Object `json:"imported"`
	// Skipped are objects of other kinds.
	Skipped []Object `json:"skipped,omitempty"`
	// Losses are in the order of the input.
	Losses []Loss `json:"losses,omitempty"`
	// Services are sorted by name.
	Services []Service `json:"services,omitempty"`
}

// String returns the report for people, a line for each loss, skipped object and service.
func (r Report) String() string {
	var b strings.Builder
	for _, l := range r.Losses {
		fmt.Fprintln(&b, l)
	}
	for _, o := range r.Skipped {
		fmt.Fprintf(&b, "%d: %s: skipped\n", o.Line, o)
	}
	for _, s := range r.Services {
		fmt.Fprintf(&b, "service %s\n", s)
	}
	return b.String()
}

// sort puts the losses in the order of the input, and drops those that say the same of the same.
func (r *Report) sort() {
	slices.SortStableFunc(r.Losses, func(a, b Loss) int { return cmp.Or(a.Line-b.Line, strings.Compare(a.Path, b.Path)) })
	seen := map[Loss]bool{}
	r.Losses = slices.DeleteFunc(r.Losses, func(l Loss) bool {
		again := seen[l]
		seen[l] = true
		return again
	})
	slices.SortFunc(r.Services, func(a, b Service) int { return strings.Compare(a.Name, b.Name) })
}

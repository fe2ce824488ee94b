package vet

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Graph says which services call each other, and at what load. It is plain data.
type Graph struct {
	// Name is that of the file, for findings.
	Name string `json:"-" yaml:"-"`
	// Locate is that of a Document.
	Locate func(path string) (line, column int) `json:"-" yaml:"-"`
	// Services by name.
	Services map[string]Service `json:"services,omitempty" yaml:"services,omitempty"`
	// Entries are where calls come from that no service of the graph makes.
	Entries []Entry `json:"entries,omitempty" yaml:"entries,omitempty"`
}

// Service is a node of a graph.
type Service struct {
	// Spec is the name of the Document by which the service makes its calls. Empty means the zero value of zerohop.Spec.
	Spec string `json:"spec,omitempty" yaml:"spec,omitempty"`
	// Instances is how many processes there are, each of them an endpoint. 0 means that it is not known, and counts as one
	// where the load of a process matters.
	Instances int `json:"instances,omitempty" yaml:"instances,omitempty"`
	// Latency is how long it takes to answer, its own calls included.
	Latency Latency `json:"latency,omitzero" yaml:"latency,omitempty"`
	// Server says that its requests come through the server half of zerohop (httpmesh.NewHandler, grpcmesh.Server): it knows how
	// much time its callers have left, does not repeat calls for requests that are repetitions, and tells its caller when
	// there is no use in repeating.
	Server bool `json:"server,omitempty" yaml:"server,omitempty"`
	// Rate is how many requests it gets in a second, all processes together. 0 means what Entries and Calls amount to.
	Rate float64 `json:"rate,omitempty" yaml:"rate,omitempty"`
	// Calls are those made for a request.
	Calls []Call `json:"calls,omitempty" yaml:"calls,omitempty"`
}

// Latency is how long answers take when all is well.
type Latency struct {
	// P50 is the median and P99 what one answer in a hundred exceeds. 0 means that it is not known.
	P50 time.Duration `json:"p50,omitempty" yaml:"p50,omitempty"`
	P99 time.Duration `json:"p99,omitempty" yaml:"p99,omitempty"`
}

// Call is what a service does to another one for a request.
type Call struct {
	// Service is the logical service that is called; where the calls go is for the routes of the Spec to say. Required.
	Service string `json:"service,omitempty" yaml:"service,omitempty"`
	// Times is how often, on average. 0 means 1.
	Times float64 `json:"times,omitempty" yaml:"times,omitempty"`
	// Method, Path and Headers are what routes look at, as in routing.Request. Method also says whether a call may be repeated:
	// without one it may. gRPC calls have the full name of the method as Path and no Method.
	Method  string            `json:"method,omitempty" yaml:"method,omitempty"`
	Path    string            `json:"path,omitempty" yaml:"path,omitempty"`
	Headers map[string]string `json:"headers,omitempty" yaml:"headers,omitempty"`
	// Unsafe says that the call must not be executed twice. POST and PATCH are taken for calls that zerohop does not repeat by
	// itself, but not for unsafe ones.
	Unsafe bool `json:"unsafe,omitempty" yaml:"unsafe,omitempty"`
	// Attempts is how often the call is made by something around zerohop, such as a loop in the code or a sidecar, if it fails.
	// 0 means 1.
	Attempts int `json:"attempts,omitempty" yaml:"attempts,omitempty"`
}

// Entry is where calls come from.
type Entry struct {
	// Service is the service called. Required.
	Service string `json:"service,omitempty" yaml:"service,omitempty"`
	// Rate is how many calls there are in a second. 0 means that it is not known.
	Rate float64 `json:"rate,omitempty" yaml:"rate,omitempty"`
	// Deadline is how long the caller waits. 0 means for ever.
	Deadline time.Duration `json:"deadline,omitempty" yaml:"deadline,omitempty"`
	// Attempts is how often the caller tries. 0 means 1.
	Attempts int `json:"attempts,omitempty" yaml:"attempts,omitempty"`
}

// Validate reports every mistake in the graph, each with the path of its field. documents are the names of those there are.
func (g *Graph) Validate(documents []string) error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(g.Services)) {
		s, path := g.Services[name], "services."+name
		check(name != "", "services: a name must not be empty")
		check(s.Spec == "" || slices.Contains(documents, s.Spec), "%s.spec: there is no spec %q", path, s.Spec)
		check(s.Instances >= 0, "%s.instances: must not be negative, got %d", path, s.Instances)
		check(s.Latency.P50 >= 0, "%s.latency.p50: must not be negative, got %v", path, s.Latency.P50)
		check(s.Latency.P99 >= 0, "%s.latency.p99: must not be negative, got %v", path, s.Latency.P99)
		check(s.Latency.P99 == 0 || s.Latency.P50 <= s.Latency.P99, "%s.latency.p50: must not be more than p99 (%v), got %v", path, s.Latency.P99, s.Latency.P50)
		check(s.Rate >= 0 && s.Rate <= 1e9, "%s.rate: must be between 0 and 1e9, got %v", path, s.Rate)
		for i, c := range s.Calls {
			at := fmt.Sprintf("%s.calls[%d]", path, i)
			check(c.Service != "", "%s.service: must be set", at)
			check(c.Times >= 0 && c.Times <= 1e6, "%s.times: must be between 0 and 1e6, got %v", at, c.Times)
			check(c.Attempts >= 0 && c.Attempts <= 1000, "%s.attempts: must be between 0 and 1000, got %d", at, c.Attempts)
		}
	}
	for i, e := range g.Entries {
		at := fmt.Sprintf("entries[%d]", i)
		_, ok := g.Services[e.Service]
		check(ok, "%s.service: there is no service %q", at, e.Service)
		check(e.Rate >= 0 && e.Rate <= 1e9, "%s.rate: must be between 0 and 1e9, got %v", at, e.Rate)
		check(e.Deadline >= 0, "%s.deadline: must not be negative, got %v", at, e.Deadline)
		check(e.Attempts >= 0 && e.Attempts <= 1000, "%s.attempts: must be between 0 and 1000, got %d", at, e.Attempts)
	}
	return errors.Join(errs...)
}

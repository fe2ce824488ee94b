package sim

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// Scenario says what is simulated.
type Scenario struct {
	// Services by name.
	Services map[string]Service
	// Clients make the calls that start it all.
	Clients []Client
	// Faults happen on the way. They may overlap.
	Faults []Fault
	// For is how long clients make calls. What is under way at the end is given up and not counted. Required.
	For time.Duration
	// Grain, if not 0, is what times are rounded up to, so that much happens at the same time, and in any order: it looks
	// for defects that need a coincidence.
	Grain time.Duration
	// Seed is that of all randomness. Run replaces 0 by 1.
	Seed uint64
}

// Service is a set of endpoints that are alike.
type Service struct {
	// Endpoints is how many there are. 0 means 1.
	Endpoints int
	// Workers is how many requests an endpoint works on at the same time. 0 means 1.
	Workers int
	// Time is how long a worker takes for a request. nil means none.
	Time Law
	// Queue is how many requests an endpoint lets wait for a worker; others are answered with 503 at once. 0 means that
	// there is no limit.
	Queue int
	// LIFO takes the request that came last from the queue, and not the one that came first.
	LIFO bool
	// MinTime is how much time the caller of a request must have left when a worker could take it, so that it is not
	// answered with 503 instead. It needs a deadline to go by. 0 means that the worker begins whatever time is left.
	MinTime time.Duration
	// DropLeft lets workers pass over requests whose caller has left. Else they work on them, for nobody.
	DropLeft bool
	// Latency is how long a message from a client to an endpoint or back takes. nil means half a millisecond.
	Latency Law
	// Bare endpoints do without the server half of zerohop, such as httpmesh.NewHandler: they know neither of deadlines nor
	// of repetitions, and do not say when a request had better not be repeated.
	Bare bool
	// Admission decides which requests an endpoint works on, as that of httpmesh.HandlerOptions and grpcmesh.Server does. The
	// workers and their Queue come behind it. Unless its Mode is On it refuses nothing; nor does it for Bare endpoints.
	Admission zerohop.AdmissionPolicy
	// Zones are those of the endpoints, in turn.
	Zones []string
	// Weights are those of the endpoints, in turn. 0 means 1.
	Weights []uint32
	// Calls are made for each request after the work of the worker, which does not wait for them, one after the other. If
	// one fails, so does the request, with 503.
	Calls []Call
	// Mesh is that of each endpoint for its Calls. Resolver and Rand are those of the simulation.
	Mesh zerohop.Config
}

// Call is what a service does to others.
type Call struct {
	// Service is the service called. Required.
	Service string
	// Times is how often, all at once. 0 means 1.
	Times int
	// Timeout is the time that the call may take, of what the caller of the request has left. 0 means all of that.
	Timeout time.Duration
}

// Client makes calls.
type Client struct {
	// Service is the service called. Required.
	Service string
	// Rate is how many calls begin per second, at random, whether or not others have been answered. Required.
	Rate float64
	// Count is how many clients share the rate, each with a mesh of its own. 0 means 1.
	Count int
	// Timeout is how long a caller waits. 0 means for ever.
	Timeout time.Duration
	// Patience is after how long a caller goes away without having said so before. Such calls count as started, and neither
	// as good nor as failed. nil means that he stays.
	Patience Law
	// Criticality is that of the calls, drawn at random for each. If it is empty, that of the policy is.
	Criticality []resilience.Criticality
	// Unsafe calls must not be executed twice, unless the policy says that they may.
	Unsafe bool
	// Mesh is that of each client. Resolver and Rand are those of the simulation.
	Mesh zerohop.Config
}

// validate reports every mistake with the path of its field.
func (s *Scenario) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	known := func(path, name string) {
		_, ok := s.Services[name]
		check(ok, "%s: there is no service %q", path, name)
	}
	check(s.For > 0, "for: must be positive, got %v", s.For)
	check(s.Grain >= 0, "grain: must not be negative, got %v", s.Grain)
	check(len(s.Clients) > 0, "clients: there must be one")
	for _, name := range slices.Sorted(maps.Keys(s.Services)) {
		v, path := s.Services[name], "services."+name
		check(v.Endpoints >= 0 && v.Endpoints <= maxEndpoints, "%s.endpoints: must be between 1 and %d, got %d", path, maxEndpoints, v.Endpoints)
		check(v.Workers >= 0, "%s.workers: must not be negative, got %d", path, v.Workers)
		check(v.Queue >= 0, "%s.queue: must not be negative, got %d", path, v.Queue)
		check(v.MinTime >= 0, "%s.minTime: must not be negative, got %v", path, v.MinTime)
		for i, c := range v.Calls {
			known(fmt.Sprintf("%s.calls[%d].service", path, i), c.Service)
			check(c.Times >= 0, "%s.calls[%d].times: must not be negative, got %d", path, i, c.Times)
			check(c.Timeout >= 0, "%s.calls[%d].timeout: must not be negative, got %v", path, i, c.Timeout)
		}
	}
	for i, c := range s.Clients {
		path := fmt.Sprintf("clients[%d]", i)
		known(path+".service", c.Service)
		check(c.Rate > 0 && c.Rate <= 1e9, "%s.rate: must be above 0 and at most 1e9, got %v", path, c.Rate)
		check(c.Count >= 0, "%s.count: must not be negative, got %d", path, c.Count)
		check(c.Timeout >= 0, "%s.timeout: must not be negative, got %v", path, c.Timeout)
		for j, l := range c.Criticality {
			check(l <= resilience.CriticalPlus, "%s.criticality[%d]: there is no level %d", path, j, l)
		}
	}
	for i := range s.Faults {
		f, path := &s.Faults[i], fmt.Sprintf("faults[%d]", i)
		known(path+".service", f.Service)
		f.validate(path, max(s.Services[f.Service].Endpoints, 1), check)
	}
	return errors.Join(errs...)
}

// maxEndpoints is how many there are addresses for.
const maxEndpoints = 10_000

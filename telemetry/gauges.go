package telemetry

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// endpointStates are what endpoints are told apart by, most serious first: each counts once.
var endpointStates = [...]string{"out", "failing", "ejected", "breaker_open", "available"}

// stateOfEndpoint returns the place of an endpoint in endpointStates.
func stateOfEndpoint(e *zerohop.EndpointState) int {
	switch {
	case !e.OutUntil.IsZero():
		return 0
	case e.FailsChecks:
		return 1
	case !e.EjectedUntil.IsZero():
		return 2
	case e.Breaker == resilience.BreakerOpen || e.Breaker == resilience.BreakerForcedOpen:
		return 3
	default:
		return 4
	}
}

// breakerStates are those of circuit breakers.
var breakerStates = [...]resilience.BreakerState{
	resilience.BreakerClosed, resilience.BreakerOpen, resilience.BreakerHalfOpen,
	resilience.BreakerDisabled, resilience.BreakerForcedOpen, resilience.BreakerMetricsOnly,
}

// stater is a mesh.
type stater interface{ State() zerohop.State }

// gauges observe what meshes know when somebody collects: each mesh is asked once for each collection, and what is gone is told of
// no more.
type gauges struct {
	endpoints, breakers, inFlight, discovered, held, limitCalls, limitMax, limitQueue metric.Int64ObservableUpDownCounter
	age, generation, budget, paused, breaker, throttle, panicking                     metric.Float64ObservableGauge

	names *names
	zone  *atomic.Pointer[string]

	mu     sync.Mutex // guards what follows
	meshes []stater
	known  map[string]*serviceLabels
}

func newGauges(f *factory, n *names, zone *atomic.Pointer[string]) *gauges {
	g := &gauges{names: n, zone: zone, known: map[string]*serviceLabels{}}
	g.endpoints = f.upDown("zerohop.endpoints", "{endpoint}", "Endpoints in use by what they are fit for.")
	g.breakers = f.upDown("zerohop.endpoint.breakers", "{breaker}", "Circuit breakers of endpoints by their state.")
	g.inFlight = f.upDown("zerohop.attempts.in_flight", "{attempt}", "Attempts in flight.")
	g.discovered = f.upDown("zerohop.discovery.endpoints", "{endpoint}", "Endpoints in use.")
	g.held = f.upDown("zerohop.discovery.held", "{endpoint}", "Endpoints in use that the source does not list any more.")
	g.age = f.gauge("zerohop.discovery.age", "s", "How long the source of endpoints has not been heard; 0 while it is.")
	g.generation = f.gauge("zerohop.spec.generation", "{generation}", "Number of the spec in force.")
	g.budget = f.gauge("zerohop.budget.level", "1", "Level of the retry budget, from 0 to 1.")
	g.paused = f.gauge("zerohop.retries.paused", "1", "1 while an operator has paused retries and backups.")
	g.breaker = f.gauge("zerohop.breaker.state", "1", "1 for the state that the circuit breaker of the service is in, 0 for the others.")
	g.throttle = f.gauge("zerohop.throttle.share", "1", "Share of attempts that throttling refuses, from 0 to 1.")
	g.panicking = f.gauge("zerohop.panic", "1", "1 while so few endpoints are in service that ejections and failed checks do not count.")
	g.limitCalls = f.upDown("zerohop.limit.in_flight", "{call}", "Calls in flight, where they are limited.")
	g.limitMax = f.upDown("zerohop.limit.max", "{call}", "How many calls may be in flight.")
	g.limitQueue = f.upDown("zerohop.limit.queue", "{call}", "Calls that wait for a place.")
	return g
}

// opened makes a mesh one of those that are observed.
func (g *gauges) opened(m stater) {
	st := m.State()
	for i := range st.Services { // those of the spec have names before calls bring others
		if s := &st.Services[i]; s.Named {
			g.names.hosts.bound(s.Name)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.meshes = append(g.meshes, m)
	g.locate(&st)
}

// closed ends that.
func (g *gauges) closed(m stater) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.meshes = slices.DeleteFunc(g.meshes, func(o stater) bool { return o == m })
}

// locate takes note of the zone of the process, which may come from the source of endpoints.
func (g *gauges) locate(st *zerohop.State) {
	if old := g.zone.Load(); st.Zone != "" && (old == nil || *old != st.Zone) {
		g.zone.Store(&st.Zone)
	}
}

// figures are what is observed of a service, in all meshes together: sums, and of gauges the worst.
type figures struct {
	name             string
	named            bool // by a spec
	watched, limited bool

	endpoints                    [len(endpointStates)]int64
	breakers, breaker            [len(breakerStates)]int64
	inFlight, discovered, held   int64
	age                          time.Duration
	budget, throttle             float64 // -1 if there is none
	paused, panicking            bool
	limitCalls, limitMax, queued int64
}

func (f *figures) add(s *zerohop.ServiceState, now time.Time) {
	f.named = f.named || s.Named
	d := &s.Discovery
	if d.Known || !d.Lost.IsZero() {
		f.watched = true
		f.discovered += int64(d.Endpoints)
		f.held += int64(d.Held)
		f.age = max(f.age, d.Age)
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		f.endpoints[stateOfEndpoint(e)]++
		f.inFlight += int64(e.InFlight)
		if b := slices.Index(breakerStates[:], e.Breaker); b >= 0 {
			f.breakers[b]++
		}
	}
	if b := slices.Index(breakerStates[:], s.Breaker); b >= 0 {
		f.breaker[b]++
	}
	if s.Budget >= 0 && (f.budget < 0 || s.Budget < f.budget) {
		f.budget = s.Budget
	}
	f.throttle = max(f.throttle, s.Throttle)
	f.paused = f.paused || s.RetriesPaused.After(now)
	f.panicking = f.panicking || s.Panicking
	if l := s.Limit; l != nil {
		f.limited = true
		f.limitCalls, f.limitMax, f.queued = f.limitCalls+int64(l.InFlight), f.limitMax+int64(l.Limit), f.queued+int64(l.Queued)
	}
}

// sum adds up what can be of services that are not told apart.
func (f *figures) sum(o *figures) {
	for i := range f.endpoints {
		f.endpoints[i] += o.endpoints[i]
	}
	for i := range f.breakers {
		f.breakers[i] += o.breakers[i]
	}
	f.inFlight, f.discovered, f.held = f.inFlight+o.inFlight, f.discovered+o.discovered, f.held+o.held
	f.limitCalls, f.limitMax, f.queued = f.limitCalls+o.limitCalls, f.limitMax+o.limitMax, f.queued+o.queued
	f.watched, f.limited = f.watched || o.watched, f.limited || o.limited
}

// maxServices is how many services are told apart, so that no instrument has more than maxSeries: the widest has one for each state
// of breakers. The others are counted together, as far as they can be counted.
const maxServices = (maxSeries - len(breakerStates)) / len(breakerStates)

// collect observes everything.
func (g *gauges) collect(o metric.Observer) {
	g.mu.Lock()
	meshes := slices.Clone(g.meshes)
	g.mu.Unlock()
	all := map[string]*figures{}
	var number uint64
	for _, m := range meshes { // without the lock, as a mesh has its own
		st := m.State()
		g.locate(&st)
		number = max(number, st.Generation)
		for i := range st.Services {
			s := &st.Services[i]
			f := all[s.Name]
			if f == nil {
				f = &figures{name: s.Name, budget: -1, throttle: -1}
				all[s.Name] = f
			}
			f.add(s, st.Time)
		}
	}
	if number > 0 {
		o.ObserveFloat64(g.generation, float64(number))
	}
	list := make([]*figures, 0, len(all))
	for _, f := range all {
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b *figures) int {
		if a.named != b.named {
			return cmp.Compare(b2i(b.named), b2i(a.named))
		}
		return cmp.Compare(a.name, b.name)
	})
	rest := &figures{name: other}
	for i, f := range list {
		if i >= maxServices {
			rest.sum(f)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	used := make(map[string]*serviceLabels, len(list))
	for _, f := range list[:min(len(list), maxServices)] {
		l := g.labels(f.name)
		used[f.name] = l
		g.observeSums(o, f, l)
		g.observeGauges(o, f, l)
	}
	if len(list) > maxServices {
		l := g.labels(other)
		used[other] = l
		g.observeSums(o, rest, l)
	}
	g.known = used
}

func (g *gauges) observeSums(o metric.Observer, f *figures, l *serviceLabels) {
	for i, n := range f.endpoints {
		o.ObserveInt64(g.endpoints, n, l.endpoint[i]...)
	}
	if slices.ContainsFunc(f.breakers[:], func(n int64) bool { return n > 0 }) {
		for i, n := range f.breakers {
			o.ObserveInt64(g.breakers, n, l.breaker[i]...)
		}
	}
	o.ObserveInt64(g.inFlight, f.inFlight, l.plain...)
	if f.watched {
		o.ObserveInt64(g.discovered, f.discovered, l.plain...)
		o.ObserveInt64(g.held, f.held, l.plain...)
	}
	if f.limited {
		o.ObserveInt64(g.limitCalls, f.limitCalls, l.plain...)
		o.ObserveInt64(g.limitMax, f.limitMax, l.plain...)
		o.ObserveInt64(g.limitQueue, f.queued, l.plain...)
	}
}

func (g *gauges) observeGauges(o metric.Observer, f *figures, l *serviceLabels) {
	if f.watched {
		o.ObserveFloat64(g.age, f.age.Seconds(), l.plain...)
	}
	if f.budget >= 0 {
		o.ObserveFloat64(g.budget, f.budget, l.plain...)
		o.ObserveFloat64(g.paused, b2f(f.paused), l.plain...)
	}
	if f.throttle >= 0 {
		o.ObserveFloat64(g.throttle, f.throttle, l.plain...)
	}
	if f.watched {
		o.ObserveFloat64(g.panicking, b2f(f.panicking), l.plain...)
	}
	if slices.ContainsFunc(f.breaker[:], func(n int64) bool { return n > 0 }) {
		for i, n := range f.breaker {
			o.ObserveFloat64(g.breaker, b2f(n > 0), l.breaker[i]...)
		}
	}
}

// serviceLabels are the sets of attributes of a service.
type serviceLabels struct {
	plain    []metric.ObserveOption
	endpoint [len(endpointStates)][]metric.ObserveOption
	breaker  [len(breakerStates)][]metric.ObserveOption
}

// labels returns those of a service. g.mu is held.
func (g *gauges) labels(name string) *serviceLabels {
	if l := g.known[name]; l != nil {
		return l
	}
	set := func(more ...attribute.KeyValue) []metric.ObserveOption {
		return newLabels(append([]attribute.KeyValue{service.String(clean(name))}, more...)...).observe
	}
	l := &serviceLabels{plain: set()}
	for i, s := range endpointStates {
		l.endpoint[i] = set(endpointState.String(s))
	}
	for i, s := range breakerStates {
		l.breaker[i] = set(breakerState.String(string(s)))
	}
	return l
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func b2f(b bool) float64 { return float64(b2i(b)) }

package telemetry

import (
	"fmt"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
)

// asked is a mesh that counts how often it is asked.
type asked struct {
	state zerohop.State
	n     int
}

func (a *asked) State() zerohop.State {
	a.n++
	return a.state
}

func newGauged(t *testing.T) (*recorder, *gauges) {
	t.Helper()
	r := newRecorder(t)
	_, m, err := build(Config{MeterProvider: r.meter, TracerProvider: tracenoop.NewTracerProvider()})
	if err != nil {
		t.Fatal(err)
	}
	return r, m.gauges
}

// value returns what a gauge has for the given attributes.
func value(t *testing.T, m metricdata.Metrics, with ...attribute.KeyValue) (v float64, ok bool) {
	t.Helper()
	g, _ := m.Data.(metricdata.Gauge[float64])
	for _, p := range g.DataPoints {
		fits := true
		for _, kv := range with {
			got, has := p.Attributes.Value(kv.Key)
			fits = fits && has && got == kv.Value
		}
		if fits {
			return p.Value, true
		}
	}
	return 0, false
}

func TestStatesOfMeshesAreObservedTogether(t *testing.T) {
	r, g := newGauged(t)
	now := time.Now()
	one := &asked{state: zerohop.State{Time: now, Generation: 3, Services: []zerohop.ServiceState{{
		Name: "orders", Named: true, Budget: 0.75, Throttle: -1, Breaker: resilience.BreakerHalfOpen, RetriesPaused: now.Add(time.Minute),
		Discovery: zerohop.DiscoveryState{Known: true, Endpoints: 5, Held: 2, Age: time.Minute}, Panicking: true,
		Limit: &resilience.LimitState{Limit: 20, InFlight: 15, Queued: 4},
		Endpoints: []zerohop.EndpointState{
			{InFlight: 1, OutUntil: now, FailsChecks: true, EjectedUntil: now, Breaker: resilience.BreakerOpen},
			{InFlight: 2, FailsChecks: true, EjectedUntil: now, Breaker: resilience.BreakerClosed},
			{InFlight: 3, EjectedUntil: now},
			{InFlight: 4, Breaker: resilience.BreakerForcedOpen},
			{InFlight: 5},
		},
	}}}}
	two := &asked{state: zerohop.State{Time: now, Generation: 1, Services: []zerohop.ServiceState{
		{Name: "idle", Budget: -1, Throttle: -1},
		{
			Name: "orders", Budget: 0.25, Throttle: 0.5, Limit: &resilience.LimitState{Limit: 1},
			Discovery: zerohop.DiscoveryState{Lost: now, Age: time.Second}, Endpoints: []zerohop.EndpointState{{InFlight: 6}},
		},
	}}}
	g.opened(one)
	g.opened(two)
	one.n, two.n = 0, 0
	m := r.instruments(t)
	if one.n != 1 || two.n != 1 {
		t.Errorf("meshes were asked %d and %d times, want once each", one.n, two.n)
	}
	orders := service.String("orders")
	for _, row := range []struct {
		name string
		with []attribute.KeyValue
		want int64
	}{
		{"zerohop.endpoints", nil, 6},
		{"zerohop.endpoints", []attribute.KeyValue{endpointState.String("out")}, 1},
		{"zerohop.endpoints", []attribute.KeyValue{endpointState.String("failing")}, 1},
		{"zerohop.endpoints", []attribute.KeyValue{endpointState.String("ejected")}, 1},
		{"zerohop.endpoints", []attribute.KeyValue{endpointState.String("breaker_open")}, 1},
		{"zerohop.endpoints", []attribute.KeyValue{orders, endpointState.String("available")}, 2},
		{"zerohop.endpoint.breakers", []attribute.KeyValue{breakerState.String("closed")}, 1},
		{"zerohop.endpoint.breakers", nil, 3},
		{"zerohop.attempts.in_flight", []attribute.KeyValue{orders}, 21},
		{"zerohop.discovery.endpoints", []attribute.KeyValue{orders}, 5},
		{"zerohop.discovery.held", []attribute.KeyValue{orders}, 2},
		{"zerohop.limit.max", []attribute.KeyValue{orders}, 21},
		{"zerohop.limit.in_flight", []attribute.KeyValue{orders}, 15},
		{"zerohop.limit.queue", []attribute.KeyValue{orders}, 4},
	} {
		if got := total(t, m[row.name], row.with...); got != row.want {
			t.Errorf("%s %v = %d, want %d", row.name, row.with, got, row.want)
		}
	}
	for name, want := range map[string]float64{
		"zerohop.budget.level": 0.25, "zerohop.throttle.share": 0.5, "zerohop.discovery.age": 60, "zerohop.retries.paused": 1, "zerohop.panic": 1,
	} {
		if got, ok := value(t, m[name], orders); !ok || got != want {
			t.Errorf("%s = %v, %t, want %v", name, got, ok, want)
		}
	}
	for state, want := range map[string]float64{"half-open": 1, "open": 0} {
		if got, ok := value(t, m["zerohop.breaker.state"], orders, breakerState.String(state)); !ok || got != want {
			t.Errorf("breaker is %s: %v, %t, want %v", state, got, ok, want)
		}
	}
	for _, name := range []string{"zerohop.budget.level", "zerohop.throttle.share", "zerohop.discovery.age", "zerohop.breaker.state", "zerohop.limit.max"} {
		if m[name].Data != nil && hasService(t, m[name], "idle") {
			t.Errorf("%s has a service that has none", name)
		}
	}
	if got, ok := value(t, m["zerohop.spec.generation"]); !ok || got != 3 {
		t.Errorf("generation = %v, %t, want 3", got, ok)
	}
	two.state.Services = two.state.Services[1:]
	g.closed(one)
	m = r.instruments(t)
	if hasService(t, m["zerohop.endpoints"], "idle") {
		t.Error("a service that is gone is still told of")
	}
	if got, want := total(t, m["zerohop.endpoints"]), int64(1); got != want {
		t.Errorf("endpoints of the mesh that is left = %d, want %d", got, want)
	}
	g.closed(two)
	if m := r.instruments(t); m["zerohop.endpoints"].Data != nil && len(points(t, m["zerohop.endpoints"])) > 0 || m["zerohop.spec.generation"].Data != nil && len(points(t, m["zerohop.spec.generation"])) > 0 {
		t.Error("closed meshes are still told of")
	}
}

func hasService(t *testing.T, m metricdata.Metrics, name string) bool {
	t.Helper()
	for _, p := range points(t, m) {
		if v, _ := p.labels.Value(service); v.AsString() == name {
			return true
		}
	}
	return false
}

// A sum of services that are not told apart is still one; the worst of them would only say that there are many.
func TestManyServicesAreObservedTogether(t *testing.T) {
	r, g := newGauged(t)
	const n = 5000
	st := zerohop.State{Generation: 1}
	for i := range n {
		st.Services = append(st.Services, zerohop.ServiceState{
			Name: fmt.Sprintf("s%04d", i), Named: i == n-1, Budget: 1, Throttle: 0, Breaker: resilience.BreakerOpen,
			Discovery: zerohop.DiscoveryState{Known: true, Endpoints: 2}, Limit: &resilience.LimitState{Limit: 1},
			Endpoints: []zerohop.EndpointState{{InFlight: 1, Breaker: resilience.BreakerClosed}, {InFlight: 1, Breaker: resilience.BreakerOpen}},
		})
	}
	g.opened(&asked{state: st})
	m := r.instruments(t)
	for name, i := range m {
		if got := len(points(t, i)); got > maxSeries {
			t.Errorf("%s has %d series, want at most %d", name, got, maxSeries)
		}
	}
	for name, want := range map[string]int64{
		"zerohop.endpoints": 2 * n, "zerohop.endpoint.breakers": 2 * n, "zerohop.attempts.in_flight": 2 * n,
		"zerohop.discovery.endpoints": 2 * n, "zerohop.limit.max": n,
	} {
		if got := total(t, m[name]); got != want {
			t.Errorf("%s = %d, want %d", name, got, want)
		}
	}
	if got, ok := value(t, m["zerohop.budget.level"], service.String("s4999")); !ok || got != 1 {
		t.Errorf("budget of the service that the spec names = %v, %t, want 1", got, ok)
	}
	if _, ok := value(t, m["zerohop.budget.level"], service.String(other)); ok {
		t.Error("services that are not told apart have a budget together")
	}
}

func TestZoneOfTheMeshTellsAttemptsApart(t *testing.T) {
	b := &backends{answer: noAnswer}
	r := newRecorder(t)
	set := b.start(t, 1)
	set["orders"][0].Zone = "there"
	c := newClient(t, zerohop.Config{Resolver: set, Zone: "here", Hooks: r.hooks(t)})
	get(t, c, t.Context(), "http://orders/")
	if got, want := total(t, r.instruments(t)["zerohop.attempts"], attemptZone.String(zoneOther)), int64(1); got != want {
		t.Errorf("attempts in another zone = %d, want %d", got, want)
	}
}

func TestServicesThatAreGoneVanish(t *testing.T) {
	r := newRecorder(t)
	mesh := newMesh(t, zerohop.Config{
		Resolver: discovery.Static{}, Hooks: r.hooks(t),
		Spec: zerohop.Spec{Services: map[string]zerohop.Policy{"orders.example": {}, "stock.example": {}}},
	})
	for _, name := range []string{"orders.example", "stock.example"} {
		if !hasService(t, r.instruments(t)["zerohop.endpoints"], name) {
			t.Errorf("no endpoints of %s are told of", name)
		}
	}
	if _, err := mesh.Update(zerohop.Spec{Services: map[string]zerohop.Policy{"orders.example": {}}}); err != nil {
		t.Fatal(err)
	}
	if m := r.instruments(t); hasService(t, m["zerohop.endpoints"], "stock.example") {
		t.Error("a service that the spec names no more is told of")
	}
}

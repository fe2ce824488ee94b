package telemetry

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
)

// seconds are the bounds that the conventions advise for durations of HTTP and RPC clients.
var seconds = metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

// metrics are the instruments and their series.
type metrics struct {
	names     *names
	requests  metric.Float64Histogram // HTTP
	rpcs      metric.Float64Histogram
	calls     metric.Float64Histogram
	attempts  metric.Int64Counter
	events    metric.Int64Counter
	failures  metric.Int64Counter
	health    metric.Int64Counter
	endpoints metric.Int64ObservableUpDownCounter
	held      metric.Int64ObservableUpDownCounter
	age       metric.Float64ObservableGauge
	updates   metric.Int64Counter
	spec      metric.Int64ObservableGauge

	byRequest *series[clientKey]
	byRPC     *series[clientKey]
	byCall    *series[callKey]
	byAttempt *series[attemptKey]
	byEvent   *series[discoveryKey]
	byFailure *series[discoveryKey]
	byHealth  *series[healthKey]
	byUpdate  *series[updateKey]

	generation atomic.Uint64 // of the spec; 0 until an update is heard of

	mu       sync.Mutex // guards supplies
	supplies map[string]*supply
}

// supply is what is known of the endpoints of a service.
type supply struct {
	endpoints, held int64
	lost            time.Time // when it was last heard; zero while it is
	labels          []metric.ObserveOption
}

func newMetrics(meter metric.Meter, n *names) (*metrics, error) {
	m := &metrics{
		names:     n,
		byRequest: newSeries[clientKey](n),
		byRPC:     newSeries[clientKey](n),
		byCall:    newSeries[callKey](n),
		byAttempt: newSeries[attemptKey](n),
		byEvent:   newSeries[discoveryKey](n),
		byFailure: newSeries[discoveryKey](n),
		byHealth:  newSeries[healthKey](n),
		byUpdate:  newSeries[updateKey](n),
		supplies:  map[string]*supply{},
	}
	var errs [12]error
	histogram := func(name, text string) (metric.Float64Histogram, error) {
		return meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(text), seconds)
	}
	m.requests, errs[0] = histogram("http.client.request.duration", "Duration of HTTP client requests.")
	m.rpcs, errs[1] = histogram("rpc.client.call.duration", "Measures the duration of an outgoing Remote Procedure Call (RPC).")
	m.calls, errs[2] = histogram("zerohop.call.duration", "Duration of calls, with all their attempts and pauses.")
	counter := func(name, unit, text string) (metric.Int64Counter, error) {
		return meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(text))
	}
	m.attempts, errs[3] = counter("zerohop.attempts", "{attempt}", "Attempts that had an endpoint.")
	m.events, errs[4] = counter("zerohop.discovery.events", "{event}", "What happened to the endpoint sets of services.")
	m.failures, errs[5] = counter("zerohop.discovery.failures", "{failure}", "Watches that broke and answers that were rejected.")
	m.health, errs[6] = counter("zerohop.health.changes", "{change}", "Endpoints that began to fail their active health checks or pass them again.")
	upDown := func(name, text string) (metric.Int64ObservableUpDownCounter, error) {
		return meter.Int64ObservableUpDownCounter(name, metric.WithUnit("{endpoint}"), metric.WithDescription(text))
	}
	m.endpoints, errs[7] = upDown("zerohop.discovery.endpoints", "Endpoints in use.")
	m.held, errs[8] = upDown("zerohop.discovery.held", "Endpoints in use that the source does not list any more.")
	m.age, errs[9] = meter.Float64ObservableGauge("zerohop.discovery.age", metric.WithUnit("s"),
		metric.WithDescription("How long the source of endpoints has not been heard; 0 while it is."))
	m.updates, errs[10] = counter("zerohop.spec.updates", "{update}", "Updates of the spec that changed something or were refused.")
	m.spec, errs[11] = meter.Int64ObservableGauge("zerohop.spec.generation", metric.WithUnit("{generation}"),
		metric.WithDescription("Number of the spec in force; unknown until it is first updated."))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	// Observed rather than counted, so that a provider that is set later learns of sets found before.
	_, err := meter.RegisterCallback(m.observe, m.endpoints, m.held, m.age, m.spec)
	return m, err
}

func (m *metrics) callDone(ctx context.Context, call *zerohop.CallInfo, r *zerohop.CallResult) {
	if m.calls.Enabled(ctx) {
		l := m.byCall.get(callKey{call.Service, call.Route, r.Outcome, r.Detail, typeOfCall(call, r)})
		m.calls.Record(ctx, r.Duration.Seconds(), l.record...)
	}
}

func (m *metrics) attemptDone(ctx context.Context, call *zerohop.CallInfo, a *zerohop.AttemptInfo, r *zerohop.AttemptResult) {
	if a.Node == nil { // none was found: nothing was attempted
		return
	}
	if m.attempts.Enabled(ctx) {
		m.attempts.Add(ctx, 1, m.byAttempt.get(attemptKey{call.Service, call.Route, kindOf(a), r.Outcome}).add...)
	}
	h, by := m.requests, m.byRequest
	switch call.Protocol {
	case protocolHTTP:
	case protocolGRPC:
		h, by = m.rpcs, m.byRPC
	default:
		return
	}
	if h.Enabled(ctx) {
		k := clientKey{call.Protocol, call.Method, call.Host, r.Status, typeOfAnswer(call.Protocol, r.Status, r.Err)}
		if call.Protocol == protocolGRPC {
			k.method = strings.TrimPrefix(k.method, "/")
		}
		h.Record(ctx, r.Duration.Seconds(), by.get(k).record...)
	}
}

func (m *metrics) discovery(name string, ev discovery.Event) {
	ctx := context.Background()
	event := strings.ReplaceAll(ev.Kind.String(), " ", "_")
	m.events.Add(ctx, 1, m.byEvent.get(discoveryKey{service: name, event: event}).add...)
	if ev.Kind == discovery.EventWatchFailed || ev.Kind == discovery.EventAnswerRejected {
		m.failures.Add(ctx, 1, m.byFailure.get(discoveryKey{service: name, errType: typeOf(ev.Err)}).add...)
	}
	name = m.names.hosts.bound(name)
	if name == other { // the sizes and ages of many services are none
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if ev.Kind == discovery.EventEnded { // nobody looks any more
		delete(m.supplies, name)
		return
	}
	s := m.supplies[name]
	if s == nil {
		s = &supply{labels: []metric.ObserveOption{metric.WithAttributeSet(attribute.NewSet(service.String(name)))}}
		m.supplies[name] = s
	}
	s.endpoints, s.held, s.lost = int64(ev.Endpoints), int64(ev.Held), ev.Lost
}

func (m *metrics) healthChanged(name string, ev zerohop.HealthEvent) {
	k := healthKey{service: name, state: "passing"}
	if !ev.Passing {
		k.state, k.errType = "failing", typeOf(ev.Err)
	}
	m.health.Add(context.Background(), 1, m.byHealth.get(k).add...)
}

func (m *metrics) updated(ev zerohop.UpdateEvent) {
	k := updateKey{state: "applied"}
	if ev.Err != nil {
		k.state = "refused"
	}
	m.updates.Add(context.Background(), 1, m.byUpdate.get(k).add...)
	m.generation.Store(ev.Generation)
}

func (m *metrics) observe(_ context.Context, o metric.Observer) error {
	if g := m.generation.Load(); g > 0 {
		o.ObserveInt64(m.spec, int64(g))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.supplies {
		o.ObserveInt64(m.endpoints, s.endpoints, s.labels...)
		o.ObserveInt64(m.held, s.held, s.labels...)
		var age time.Duration
		if !s.lost.IsZero() {
			age = time.Since(s.lost)
		}
		o.ObserveFloat64(m.age, age.Seconds(), s.labels...)
	}
	return nil
}

package telemetry

import (
	"context"
	"errors"
	"slices"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/zerohop/zerohop"
)

var (
	serverReason     = attribute.Key("zerohop.server.reason")
	serverName       = attribute.Key("zerohop.server.name")
	kindOfServerShed = &eventKind{words: [3]attribute.Key{serverReason, criticality}, switched: enforced}
)

// maxWatched bounds how many Admissions are told apart: a program has one for each server in it.
const maxWatched = 100

// Admission reports what the server half does, as Config.MeterProvider of NewAdmission wants it. All methods are safe for concurrent
// use.
//
//	reports, err := telemetry.NewAdmission(telemetry.Config{})
//	...
//	admission, err := zerohop.NewAdmission(zerohop.AdmissionConfig{Policy: policy, Refused: reports.Refused})
//	...
//	defer reports.Watch("api", admission)()
type Admission struct {
	shed                 *counter[eventKey]
	inFlight, max, queue metric.Int64ObservableUpDownCounter

	mu      sync.Mutex // guards watched
	watched []watchedAdmission
}

type watchedAdmission struct {
	admission *zerohop.Admission
	labels    *labels
}

// NewAdmission returns an Admission that reports to cfg.MeterProvider; the rest of cfg is not used. The error is one of the
// MeterProvider, which refused an instrument.
func NewAdmission(cfg Config) (*Admission, error) {
	if cfg.MeterProvider == nil {
		cfg.MeterProvider = otel.GetMeterProvider()
	}
	meter := cfg.MeterProvider.Meter(scope, metric.WithSchemaURL(schema))
	f := &factory{meter: meter}
	a := &Admission{shed: &counter[eventKey]{
		newSeries[eventKey](newNames()), f.counter("zerohop.server.refusals", "{request}", "Requests that the server refused, or would have."),
	}}
	a.inFlight = f.upDown("zerohop.server.in_flight", "{request}", "Requests that are worked on.")
	a.max = f.upDown("zerohop.server.limit", "{request}", "How many requests may be worked on at once.")
	a.queue = f.upDown("zerohop.server.queue", "{request}", "Requests that wait for a place.")
	if err := errors.Join(f.errs...); err != nil {
		return nil, err
	}
	if _, err := meter.RegisterCallback(a.collect, f.observed...); err != nil {
		return nil, err
	}
	return a, nil
}

// Refused counts a request that was refused, or would have been: it is for zerohop.AdmissionConfig.Refused. The span that the
// context has, such as that of the server, gets an event.
func (a *Admission) Refused(ctx context.Context, r zerohop.AdmissionRefusal) {
	why := ""
	switch {
	case r.Err == nil:
	case r.Err.NoTime: // for this and any other server
		why = "caller has no time"
	default:
		why = r.Err.Admission.String()
	}
	a.shed.add(eventKey{kind: kindOfServerShed, words: [3]string{why, r.Arrival.Criticality.String()}, yes: r.Enforced}, 1)
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.AddEvent(eventServerRefused, trace.WithAttributes(
			serverReason.String(word(why)), criticality.String(r.Arrival.Criticality.String()), enforced.Bool(r.Enforced)))
	}
}

// Watch has what the Admission of a server is at observed, from now until stop is called. name tells several servers in one
// program apart; those beyond the first 100 are not observed. stop may be called more than once.
func (a *Admission) Watch(name string, admission *zerohop.Admission) (stop func()) {
	l := newLabels(serverName.String(clean(name)))
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.watched) < maxWatched {
		a.watched = append(a.watched, watchedAdmission{admission, l})
	}
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.watched = slices.DeleteFunc(a.watched, func(w watchedAdmission) bool { return w.labels == l })
	}
}

func (a *Admission) collect(_ context.Context, o metric.Observer) error {
	a.shed.collect(o)
	a.mu.Lock()
	list := slices.Clone(a.watched)
	a.mu.Unlock()
	for _, w := range list {
		st := w.admission.State()
		o.ObserveInt64(a.inFlight, int64(st.InFlight), w.labels.observe...)
		o.ObserveInt64(a.max, int64(st.Limit), w.labels.observe...)
		o.ObserveInt64(a.queue, int64(st.Queued), w.labels.observe...)
	}
	return nil
}

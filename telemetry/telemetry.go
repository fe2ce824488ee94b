package telemetry

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/zerohop/zerohop"
)

const (
	scope = "github.com/zerohop/zerohop/telemetry"
	// schema is the version of the semantic conventions that names follow.
	schema = "https://opentelemetry.io/schemas/1.43.0"
)

// Config says where the data goes. The zero value takes what is set globally in package otel, be it set before or
// after New.
type Config struct {
	// MeterProvider takes the metrics. nil means the global one, and that of metric/noop switches metrics off.
	MeterProvider metric.MeterProvider
	// TracerProvider takes the spans. nil means the global one at the time of the call; while none is set, calls
	// cost nothing and have no spans. That of trace/noop switches spans off. Programs that are instrumented from
	// outside (OpenTelemetry's eBPF agent) set it to otel.GetTracerProvider().
	TracerProvider trace.TracerProvider
	// Propagator writes the headers by which endpoints continue the trace. nil means the global one, which until
	// it is set writes none.
	Propagator propagation.TextMapPropagator
	// Instrumented says that others measure the same clients: otelhttp.NewTransport around the mesh or below it, or the stats handler
	// of otelgrpc. What the conventions name is left to them then: http.client.request.duration and rpc.client.call.duration are not
	// made, and spans of attempts are INTERNAL and have no attributes of HTTP and RPC. All else is the same, and the trace goes through.
	// It cannot be found out: neither a context nor a transport tells who has wrapped it.
	Instrumented bool
}

// New returns hooks that report to the given providers. They are for one mesh or many and safe for concurrent use; zerohop.JoinHooks
// adds others, such as those of Log. They stay registered with the MeterProvider as long as it lives, so a program makes them once.
// What is observed of meshes, such as endpoints, is asked of those that were made with the hooks and are not closed: sums are
// of all of them, and a gauge has the worst. The error is one of the MeterProvider, which refused an instrument.
func New(cfg Config) (zerohop.Hooks, error) {
	h, _, err := build(cfg)
	return h, err
}

// build is New, and returns what it has made the instruments of.
func build(cfg Config) (zerohop.Hooks, *metrics, error) {
	if cfg.MeterProvider == nil {
		cfg.MeterProvider = otel.GetMeterProvider()
	}
	n := newNames()
	m, err := newMetrics(cfg.MeterProvider.Meter(scope, metric.WithSchemaURL(schema)), n, cfg.Instrumented)
	if err != nil {
		return zerohop.Hooks{}, nil, err
	}
	t := &tracing{configured: cfg.TracerProvider, names: n, instrumented: cfg.Instrumented}
	return zerohop.Hooks{
		CallStart: func(ctx context.Context, call zerohop.CallInfo) context.Context { return t.callStart(ctx, &call) },
		AttemptStart: func(ctx context.Context, call zerohop.CallInfo, a zerohop.AttemptInfo) context.Context {
			return t.attemptStart(ctx, &call, &a)
		},
		CallDone: func(ctx context.Context, call zerohop.CallInfo, r zerohop.CallResult) {
			m.callDone(ctx, &call, &r)
			t.callDone(ctx, &call, &r)
		},
		AttemptDone: func(ctx context.Context, call zerohop.CallInfo, a zerohop.AttemptInfo, r zerohop.AttemptResult) {
			m.attemptDone(ctx, &call, &a, &r)
			t.attemptDone(ctx, &call, &a, &r)
		},
		Refused: func(ctx context.Context, call zerohop.CallInfo, r zerohop.Refusal) {
			m.events.refused(&call, &r)
			t.refused(ctx, &r)
		},
		FellBack: func(ctx context.Context, call zerohop.CallInfo, by string, _ error) {
			m.events.fellBack(&call, by)
			t.fellBack(ctx, by)
		},
		Explained: func(ctx context.Context, e *zerohop.Explanation) {
			m.events.explained(e)
			t.explained(ctx, e)
		},
		Propagate: func(ctx context.Context, set func(key, value string)) {
			if p := propagatorOr(cfg.Propagator); p != nil {
				p.Inject(ctx, carrier(set))
			}
		},
		Lane:       func(ctx context.Context) string { return baggage.FromContext(ctx).Member(zerohop.LaneKey).Value() },
		Discovery:  m.events.discovery,
		Health:     m.events.healthChanged,
		Update:     m.events.updated,
		State:      m.events.stateChanged,
		Connection: m.events.connected,
		Opened:     func(mesh *zerohop.Mesh) { m.gauges.opened(mesh) },
		Closed:     func(mesh *zerohop.Mesh) { m.gauges.closed(mesh) },
	}, m, nil
}

// propagatorOr returns a propagator, the global one if it is nil.
func propagatorOr(p propagation.TextMapPropagator) propagation.TextMapPropagator {
	if p == nil {
		p = otel.GetTextMapPropagator()
	}
	return p
}

// carrier lets a propagator set headers. It has none to read.
type carrier func(key, value string)

func (c carrier) Set(key, value string) { c(key, value) }

func (carrier) Get(string) string { return "" }

func (carrier) Keys() []string { return nil }

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
}

// New returns hooks that report to the given providers. They are for one mesh or many and safe for concurrent use.
// They stay registered with the MeterProvider as long as it lives, so a program makes them once. Where several meshes
// watch the same service, the observable instruments tell what the last one to hear of it has. The error is one of the
// MeterProvider, which refused an instrument.
func New(cfg Config) (zerohop.Hooks, error) {
	if cfg.MeterProvider == nil {
		cfg.MeterProvider = otel.GetMeterProvider()
	}
	n := newNames()
	m, err := newMetrics(cfg.MeterProvider.Meter(scope, metric.WithSchemaURL(schema)), n)
	if err != nil {
		return zerohop.Hooks{}, err
	}
	t := &tracing{configured: cfg.TracerProvider, names: n}
	return zerohop.Hooks{
		CallStart:    t.callStart,
		AttemptStart: t.attemptStart,
		CallDone: func(ctx context.Context, call zerohop.CallInfo, r zerohop.CallResult) {
			m.callDone(ctx, &call, &r)
			t.callDone(ctx, &call, &r)
		},
		AttemptDone: func(ctx context.Context, call zerohop.CallInfo, a zerohop.AttemptInfo, r zerohop.AttemptResult) {
			m.attemptDone(ctx, &call, &a, &r)
			t.attemptDone(ctx, &call, &a, &r)
		},
		Propagate: func(ctx context.Context, set func(key, value string)) {
			p := cfg.Propagator
			if p == nil {
				p = otel.GetTextMapPropagator()
			}
			if p != nil {
				p.Inject(ctx, carrier(set))
			}
		},
		Lane:      func(ctx context.Context) string { return baggage.FromContext(ctx).Member(zerohop.LaneKey).Value() },
		Discovery: m.discovery,
		Health:    m.healthChanged,
		Update:    m.updated,
	}, nil
}

// carrier lets a propagator set headers. It has none to read.
type carrier func(key, value string)

func (c carrier) Set(key, value string) { c(key, value) }

func (carrier) Get(string) string { return "" }

func (carrier) Keys() []string { return nil }

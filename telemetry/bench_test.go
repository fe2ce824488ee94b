package telemetry

import (
	"net/http"
	"testing"

	"go.opentelemetry.io/otel"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
)

// configs are the ways in which a program may have set OpenTelemetry up. Nothing keeps or exports spans, so that what
// is measured is making them.
func configs(b *testing.B) map[string]Config {
	r := newRecorder(b)
	provider := sdktrace.NewTracerProvider()
	never := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))
	return map[string]Config{
		"unset":     {MeterProvider: otel.GetMeterProvider()},
		"noop":      {MeterProvider: metricnoop.NewMeterProvider(), TracerProvider: tracenoop.NewTracerProvider()},
		"metrics":   {MeterProvider: r.meter, TracerProvider: tracenoop.NewTracerProvider()},
		"unsampled": {MeterProvider: r.meter, TracerProvider: never, Propagator: propagation.TraceContext{}},
		"all":       {MeterProvider: r.meter, TracerProvider: provider, Propagator: propagation.TraceContext{}},
	}
}

var order = []string{"unset", "noop", "metrics", "unsampled", "all"}

// BenchmarkHooks measures the hooks of one call with one attempt.
func BenchmarkHooks(b *testing.B) {
	all := configs(b)
	a := zerohop.AttemptInfo{Node: newNode("10.0.0.1:80")}
	for _, name := range order {
		h, err := New(all[name])
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			ctx := b.Context()
			for b.Loop() {
				drive(&h, ctx, ordersCall, a, zerohop.AttemptResult{Status: 200})
			}
		})
	}
}

type nopTransport struct{}

func (nopTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Body: http.NoBody, Request: req}, nil
}

// BenchmarkRoundTrip measures a whole call over a base transport that does nothing.
func BenchmarkRoundTrip(b *testing.B) {
	all := configs(b)
	for _, name := range append([]string{"off"}, order...) {
		b.Run(name, func(b *testing.B) {
			cfg := zerohop.Config{Resolver: discovery.Static{"orders": {{Addr: "10.0.0.1:80"}, {Addr: "10.0.0.2:80"}}}}
			if name != "off" {
				h, err := New(all[name])
				if err != nil {
					b.Fatal(err)
				}
				cfg.Hooks = h
			}
			tr := httpmesh.NewTransport(newMesh(b, cfg), nopTransport{})
			req, err := http.NewRequest("GET", "http://orders/v1", nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				resp, err := tr.RoundTrip(req)
				if err != nil {
					b.Fatal(err)
				}
				resp.Body.Close()
			}
		})
	}
}

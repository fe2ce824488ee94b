package telemetry

import (
	"context"
	"net/http"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
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
		"own":       {MeterProvider: free{}, TracerProvider: tracenoop.NewTracerProvider()},
		"metrics":   {MeterProvider: r.meter, TracerProvider: tracenoop.NewTracerProvider()},
		"unsampled": {MeterProvider: r.meter, TracerProvider: never, Propagator: propagation.TraceContext{}},
		"all":       {MeterProvider: r.meter, TracerProvider: provider, Propagator: propagation.TraceContext{}},
	}
}

// processor reports the time of processors that an operation takes, which neighbours on the same machine cannot lengthen much. It is
// to be called when the loop is about to begin, and what it returns when it is over.
func processor(b *testing.B) func() {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	begin := used()
	return func() { b.ReportMetric(float64((used()-begin).Nanoseconds())/float64(b.N), "cpu-ns/op") }
}

// free is a provider whose instruments say that they are in use, and cost nothing: what is left is the cost of this package.
type free struct{ metricnoop.MeterProvider }

func (free) Meter(string, ...metric.MeterOption) metric.Meter { return freeMeter{} }

type freeMeter struct{ metricnoop.Meter }

func (freeMeter) Float64Histogram(string, ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	return freeHistogram{}, nil
}

type freeHistogram struct{ metricnoop.Float64Histogram }

func (freeHistogram) Enabled(context.Context) bool { return true }

// BenchmarkSDK measures what the SDK takes to record the two durations of one call with one attempt, with sets of attributes that are
// ready: the least that any instrumentation of both pays.
func BenchmarkSDK(b *testing.B) {
	defer processor(b)()
	r := newRecorder(b)
	meter := r.meter.Meter(scope)
	calls, _ := meter.Float64Histogram("calls", seconds)
	requests, _ := meter.Float64Histogram("requests", seconds)
	n := newNames()
	call := newLabels(callKey{service: "orders"}.canonical(n).attributes()...)
	request := newLabels(clientKey{method: "GET", host: "orders", status: 200}.canonical(n).attributes()...)
	b.ReportAllocs()
	ctx := b.Context()
	for b.Loop() {
		calls.Record(ctx, 0, call.record...)
		requests.Record(ctx, 0, request.record...)
	}
}

var order = []string{"unset", "noop", "own", "metrics", "unsampled", "all"}

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
			defer processor(b)()
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
			defer processor(b)()
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

package telemetry

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/embedded"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
)

var ordersCall = zerohop.CallInfo{Service: "orders", Host: "orders", Protocol: "http", Method: http.MethodGet}

// allocations counts those of the hooks of one call.
func allocations(h *zerohop.Hooks, ctx context.Context) float64 {
	a := zerohop.AttemptInfo{Node: newNode("10.0.0.1:80")}
	set := func(string, string) {}
	return testing.AllocsPerRun(100, func() {
		ctx := h.CallStart(ctx, ordersCall)
		actx := h.AttemptStart(ctx, ordersCall, a)
		h.Propagate(actx, set)
		h.AttemptDone(actx, ordersCall, a, zerohop.AttemptResult{Status: 200})
		h.CallDone(ctx, ordersCall, zerohop.CallResult{Attempts: 1, Status: 200})
	})
}

// The global providers can be set once in a process only, so the test has one of its own.
func TestGlobalProvidersSetAfterwards(t *testing.T) {
	const inner = "ZEROHOP_TEST_GLOBAL_PROVIDERS"
	if os.Getenv(inner) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestGlobalProvidersSetAfterwards$", "-test.count=1")
		cmd.Env = append(os.Environ(), inner+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	h, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled})
	ctx := trace.ContextWithSpanContext(t.Context(), sc)
	if got := allocations(&h, ctx); got != 0 {
		t.Errorf("without providers a call costs %v allocations, want 0", got)
	}
	h.Discovery("orders", discovery.Event{Kind: discovery.EventPublished, Endpoints: 2})
	early := h.CallStart(ctx, ordersCall) // its end comes when there is a provider

	r := newRecorder(t)
	otel.SetMeterProvider(r.meter)
	otel.SetTracerProvider(r.tracer)
	otel.SetTextMapPropagator(propagation.TraceContext{})
	a := zerohop.AttemptInfo{Node: newNode("10.0.0.1:80")}
	h.CallDone(h.AttemptStart(early, ordersCall, a), ordersCall, zerohop.CallResult{})
	drive(&h, ctx, ordersCall, a, zerohop.AttemptResult{Status: 200})
	if got, want := len(r.ended(t)), 2; got != want {
		t.Errorf("%d spans after a provider was set, want %d", got, want)
	}
	m := r.instruments(t)
	if got, want := total(t, m["zerohop.call.duration"]), int64(2); got != want {
		t.Errorf("%d calls after a provider was set, want %d", got, want)
	}
	if got, want := total(t, m["zerohop.discovery.events"]), int64(1); got != want {
		t.Errorf("%d events of discovery, want the %d before a provider was set", got, want)
	}

	second := newRecorder(t)
	otel.SetTracerProvider(second.tracer)
	drive(&h, ctx, ordersCall, a, zerohop.AttemptResult{Status: 200})
	if got, want := len(second.ended(t)), 2; got != want {
		t.Errorf("%d spans for the second provider, want %d", got, want)
	}
	if got, want := len(r.ended(t)), 2; got != want {
		t.Errorf("%d spans for the first provider after it was replaced, want %d", got, want)
	}
}

func TestMetricsOfKnownSeriesAllocateNothing(t *testing.T) {
	r := newRecorder(t)
	h, err := New(Config{MeterProvider: r.meter, TracerProvider: tracenoop.NewTracerProvider()})
	if err != nil {
		t.Fatal(err)
	}
	if got := allocations(&h, t.Context()); got != 0 {
		t.Errorf("metrics of a call cost %v allocations, want 0", got)
	}
}

// A call that is not sampled is one for the endpoints, too.
func TestUnsampledCallsPropagateThat(t *testing.T) {
	r := newRecorder(t, sdktrace.WithSampler(sdktrace.NeverSample()))
	h := r.hooks(t)
	ctx := h.CallStart(t.Context(), ordersCall)
	actx := h.AttemptStart(ctx, ordersCall, zerohop.AttemptInfo{})
	header := http.Header{}
	h.Propagate(actx, header.Set)
	if got, want := header.Get("Traceparent"), "00-"+trace.SpanContextFromContext(ctx).TraceID().String(); len(got) != 55 || got[:35] != want || got[53:] != "00" {
		t.Errorf("traceparent = %q, want one of trace %s that is not sampled", got, want)
	}
	h.AttemptDone(actx, ordersCall, zerohop.AttemptInfo{}, zerohop.AttemptResult{})
	h.CallDone(ctx, ordersCall, zerohop.CallResult{})
	if got := len(r.spans.Started()); got != 0 {
		t.Errorf("%d spans began, want 0", got)
	}
}

// A call within an attempt of another one, over a mesh with other hooks, must leave its span alone.
func TestSilentCallLeavesTheSpanAroundItAlone(t *testing.T) {
	r := newRecorder(t)
	loud := r.hooks(t)
	outer := loud.AttemptStart(loud.CallStart(t.Context(), ordersCall), ordersCall, zerohop.AttemptInfo{})
	never := newRecorder(t, sdktrace.WithSampler(sdktrace.NeverSample()))
	for name, p := range map[string]trace.TracerProvider{"noop": tracenoop.NewTracerProvider(), "unsampled": never.tracer} {
		h, err := New(Config{MeterProvider: metricnoop.NewMeterProvider(), TracerProvider: p, Propagator: propagation.TraceContext{}})
		if err != nil {
			t.Fatal(err)
		}
		drive(&h, outer, ordersCall, zerohop.AttemptInfo{}, zerohop.AttemptResult{})
		if got := len(r.spans.Ended()); got != 0 {
			t.Errorf("%s: %d spans of the call around were ended, want 0", name, got)
		}
	}
}

// A program that moves from one back end to another reports to both for a while.
func TestHooksOfTwoProvidersLeaveEachOthersSpansAlone(t *testing.T) {
	one, two := newRecorder(t), newRecorder(t)
	h := zerohop.JoinHooks(one.hooks(t), two.hooks(t))
	drive(&h, t.Context(), ordersCall, zerohop.AttemptInfo{Node: newNode("10.0.0.1:80")}, zerohop.AttemptResult{Status: 200})
	for i, r := range []*recorder{one, two} {
		spans := r.ended(t)
		if got, want := len(spans), 2; got != want {
			t.Errorf("provider %d has %d spans, want %d", i, got, want)
			continue
		}
		if got, want := spans[1].Parent().SpanID(), spans[0].SpanContext().SpanID(); got != want {
			t.Errorf("provider %d: parent of the attempt = %v, want the call, %v", i, got, want)
		}
		if got, want := total(t, r.instruments(t)["zerohop.attempts"]), int64(1); got != want {
			t.Errorf("provider %d has %d attempts, want %d", i, got, want)
		}
	}
}

// odd is a provider whose values cannot be compared.
type odd struct {
	embedded.TracerProvider
	names []string
}

func (o odd) Tracer(name string, _ ...trace.TracerOption) trace.Tracer {
	o.names[0] = name
	return tracenoop.Tracer{}
}

func TestProvidersNeedNotBeComparable(t *testing.T) {
	p := odd{names: make([]string, 1)}
	h, err := New(Config{MeterProvider: metricnoop.NewMeterProvider(), TracerProvider: p})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		drive(&h, t.Context(), ordersCall, zerohop.AttemptInfo{}, zerohop.AttemptResult{})
		if got, want := p.names[0], scope; got != want {
			t.Errorf("tracer = %q, want %q", got, want)
		}
		p.names[0] = ""
	}
}

var errRefused = errors.New("refused")

// refusing is a provider whose meters make no histograms, or take no callback only.
type refusing struct {
	metricnoop.MeterProvider
	callbackOnly bool
}

func (r refusing) Meter(string, ...metric.MeterOption) metric.Meter {
	return refusingMeter{callbackOnly: r.callbackOnly}
}

type refusingMeter struct {
	metricnoop.Meter
	callbackOnly bool
}

func (m refusingMeter) Float64Histogram(name string, _ ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	if m.callbackOnly {
		return metricnoop.Float64Histogram{}, nil
	}
	return nil, errRefused
}

func (refusingMeter) RegisterCallback(metric.Callback, ...metric.Observable) (metric.Registration, error) {
	return nil, errRefused
}

func TestNewReportsWhatTheProviderRefuses(t *testing.T) {
	for _, callbackOnly := range []bool{false, true} {
		if _, err := New(Config{MeterProvider: refusing{callbackOnly: callbackOnly}}); !errors.Is(err, errRefused) {
			t.Errorf("New() = %v, want %v", err, errRefused)
		}
	}
}

func TestCarrierHasNothingToRead(t *testing.T) {
	var got []string
	c := carrier(func(key, value string) { got = append(got, key, value) })
	c.Set("a", "b")
	if want := []string{"a", "b"}; !slices.Equal(got, want) {
		t.Errorf("Set() set %q, want %q", got, want)
	}
	if c.Get("a") != "" || c.Keys() != nil {
		t.Error("a carrier of hooks can be read, want that it cannot")
	}
}

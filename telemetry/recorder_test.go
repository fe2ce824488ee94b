package telemetry

import (
	"context"
	"slices"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
)

// recorder is an SDK that keeps what it gets.
type recorder struct {
	spans  *tracetest.SpanRecorder
	tracer *sdktrace.TracerProvider
	reader *metric.ManualReader
	meter  *metric.MeterProvider
}

func newRecorder(t testing.TB, opts ...sdktrace.TracerProviderOption) *recorder {
	r := &recorder{spans: tracetest.NewSpanRecorder(), reader: metric.NewManualReader()}
	r.tracer = sdktrace.NewTracerProvider(append(opts, sdktrace.WithSpanProcessor(r.spans))...)
	// Without the limit of the SDK, that of this package is seen.
	r.meter = metric.NewMeterProvider(metric.WithReader(r.reader), metric.WithCardinalityLimit(0))
	t.Cleanup(func() {
		_ = r.tracer.Shutdown(context.Background())
		_ = r.meter.Shutdown(context.Background())
	})
	return r
}

func (r *recorder) hooks(t testing.TB) zerohop.Hooks {
	t.Helper()
	h, err := New(Config{MeterProvider: r.meter, TracerProvider: r.tracer, Propagator: propagation.TraceContext{}})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// ended returns the spans that ended, in the order in which they began.
func (r *recorder) ended(t *testing.T) []sdktrace.ReadOnlySpan {
	t.Helper()
	started, ended := r.spans.Started(), r.spans.Ended()
	if len(started) != len(ended) {
		t.Errorf("%d spans began and %d ended", len(started), len(ended))
	}
	slices.SortStableFunc(ended, func(a, b sdktrace.ReadOnlySpan) int { return a.StartTime().Compare(b.StartTime()) })
	return ended
}

func (r *recorder) instruments(t *testing.T) map[string]metricdata.Metrics {
	t.Helper()
	var data metricdata.ResourceMetrics
	if err := r.reader.Collect(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	list := map[string]metricdata.Metrics{}
	for _, s := range data.ScopeMetrics {
		for _, m := range s.Metrics {
			list[m.Name] = m
		}
	}
	return list
}

// point is what was measured under one set of attributes: a sum, or the number of values in a histogram.
type point struct {
	labels attribute.Set
	n      int64
}

func points(t *testing.T, m metricdata.Metrics) (list []point) {
	t.Helper()
	switch data := m.Data.(type) {
	case metricdata.Sum[int64]:
		for _, p := range data.DataPoints {
			list = append(list, point{p.Attributes, p.Value})
		}
	case metricdata.Gauge[int64]:
		for _, p := range data.DataPoints {
			list = append(list, point{p.Attributes, p.Value})
		}
	case metricdata.Gauge[float64]: // in seconds
		for _, p := range data.DataPoints {
			list = append(list, point{p.Attributes, int64(p.Value)})
		}
	case metricdata.Histogram[float64]:
		for _, p := range data.DataPoints {
			list = append(list, point{p.Attributes, int64(p.Count)})
		}
	default:
		t.Fatalf("%s is a %T", m.Name, data)
	}
	return list
}

// total sums up the points that have the given attributes.
func total(t *testing.T, m metricdata.Metrics, with ...attribute.KeyValue) (n int64) {
	t.Helper()
	if m.Data == nil {
		return 0
	}
	for _, p := range points(t, m) {
		if !slices.ContainsFunc(with, func(kv attribute.KeyValue) bool {
			v, ok := p.labels.Value(kv.Key)
			return !ok || v != kv.Value
		}) {
			n += p.n
		}
	}
	return n
}

// spanHas checks attributes of a span by their text. "-" means that there must be none.
func spanHas(t *testing.T, s sdktrace.ReadOnlySpan, want map[attribute.Key]string) {
	t.Helper()
	got := map[attribute.Key]string{}
	for _, kv := range s.Attributes() {
		got[kv.Key] = kv.Value.String()
	}
	for k, v := range want {
		g, ok := got[k]
		if !ok {
			g = "-"
		}
		if g != v {
			t.Errorf("span %q: %s = %s, want %s", s.Name(), k, g, v)
		}
	}
}

func newMesh(t testing.TB, cfg zerohop.Config) *zerohop.Mesh {
	t.Helper()
	m, err := zerohop.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func newNode(addr string) *loadbalance.Node {
	b := loadbalance.New(loadbalance.Config{})
	b.Update([]discovery.Endpoint{{Addr: addr}})
	return b.Set().Nodes()[0]
}

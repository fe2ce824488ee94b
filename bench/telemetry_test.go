package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	zh "github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/telemetry"
)

// sdk is what all contenders report to: a reader of metrics that nobody asks while the clock runs, and spans that end in a processor
// which does nothing but count, so that neither memory nor exporters are measured.
type sdk struct {
	reader     *metric.ManualReader
	meter      *metric.MeterProvider
	tracer     trace.TracerProvider
	propagator propagation.TextMapPropagator
	spans      atomic.Int64 // that were sampled and have ended
}

// The ways in which a program may have set OpenTelemetry up.
const (
	metricsOnly = "metrics"
	unsampled   = "metrics+unsampled"
	sampled     = "metrics+sampled"
)

func newSDK(tb testing.TB, mode string) *sdk {
	s := &sdk{reader: metric.NewManualReader(), propagator: propagation.TraceContext{}}
	s.meter = metric.NewMeterProvider(metric.WithReader(s.reader))
	tb.Cleanup(func() { _ = s.meter.Shutdown(context.Background()) })
	sampler := sdktrace.AlwaysSample()
	switch mode {
	case metricsOnly:
		s.tracer = tracenoop.NewTracerProvider()
		return s
	case unsampled:
		sampler = sdktrace.NeverSample()
	}
	p := sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler), sdktrace.WithSpanProcessor(s))
	tb.Cleanup(func() { _ = p.Shutdown(context.Background()) })
	s.tracer = p
	return s
}

func (*sdk) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (s *sdk) OnEnd(sdktrace.ReadOnlySpan)                   { s.spans.Add(1) }
func (*sdk) Shutdown(context.Context) error                  { return nil }
func (*sdk) ForceFlush(context.Context) error                { return nil }

// recorded returns how many values a histogram has.
func (s *sdk) recorded(tb testing.TB, name string) (n int) {
	var data metricdata.ResourceMetrics
	if err := s.reader.Collect(context.Background(), &data); err != nil {
		tb.Fatal(err)
	}
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			if h, ok := m.Data.(metricdata.Histogram[float64]); ok && m.Name == name {
				for _, p := range h.DataPoints {
					n += int(p.Count)
				}
			}
		}
	}
	return n
}

// observed is a client with or without instrumentation.
type observed struct {
	name     string // of the client
	by       string // of the instrumentation, empty for none
	duration string // the histogram that has each request
	spans    int    // of a call if all are sampled
	// make returns a function that makes a call and reads its answer. s is nil if there is no instrumentation.
	make func(tb testing.TB, s *sdk) func() error
}

const (
	ofHTTP = "http.client.request.duration"
	ofGRPC = "rpc.client.call.duration"
)

var clients = []observed{
	{"http", "", ofHTTP, 0, func(testing.TB, *sdk) func() error { return getting(answering{}) }},
	{"http", "otelhttp", ofHTTP, 1, func(_ testing.TB, s *sdk) func() error {
		return getting(otelhttp.NewTransport(answering{}, otelhttp.WithMeterProvider(s.meter), otelhttp.WithTracerProvider(s.tracer), otelhttp.WithPropagators(s.propagator)))
	}},
	{"http+zerohop", "", ofHTTP, 0, overHTTPMesh},
	{"http+zerohop", "telemetry", ofHTTP, 2, overHTTPMesh},
	{"grpc", "", ofGRPC, 0, func(tb testing.TB, _ *sdk) func() error { return saying(tb, "passthrough:///echo") }},
	{"grpc", "otelgrpc", ofGRPC, 1, func(tb testing.TB, s *sdk) func() error {
		return saying(tb, "passthrough:///echo", grpc.WithStatsHandler(otelgrpc.NewClientHandler(
			otelgrpc.WithMeterProvider(s.meter), otelgrpc.WithTracerProvider(s.tracer), otelgrpc.WithPropagators(s.propagator))))
	}},
	{"grpc+zerohop", "", ofGRPC, 0, overGRPCMesh},
	{"grpc+zerohop", "telemetry", ofGRPC, 2, overGRPCMesh},
}

// answering is a base transport without a network.
type answering struct{}

func (answering) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, ContentLength: 6,
		Body: io.NopCloser(strings.NewReader("answer")), Request: req,
	}, nil
}

// getting makes requests through a client with a transport.
func getting(rt http.RoundTripper) func() error {
	c, buf := &http.Client{Transport: rt}, make([]byte, 64)
	return func() error {
		resp, err := c.Get("http://orders/v1")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		for {
			if _, err := resp.Body.Read(buf); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
		}
	}
}

// meshOf returns a mesh of two endpoints with the defaults of services.
func meshOf(tb testing.TB, s *sdk) *zh.Mesh {
	cfg := zh.Config{Resolver: discovery.Static{
		"orders": {{Addr: "10.0.0.1:80"}, {Addr: "10.0.0.2:80"}}, "echo": {{Addr: "10.0.0.1:80"}, {Addr: "10.0.0.2:80"}},
	}}
	if s != nil {
		h, err := telemetry.New(telemetry.Config{MeterProvider: s.meter, TracerProvider: s.tracer, Propagator: s.propagator})
		if err != nil {
			tb.Fatal(err)
		}
		cfg.Hooks = h
	}
	m, err := zh.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { m.Close() })
	return m
}

func overHTTPMesh(tb testing.TB, s *sdk) func() error {
	return getting(httpmesh.NewTransport(meshOf(tb, s), answering{}))
}

func overGRPCMesh(tb testing.TB, s *sdk) func() error {
	return saying(tb, grpcmesh.Target("echo"), grpcmesh.DialOptions(meshOf(tb, s))...)
}

type echoing struct{ echopb.UnimplementedEchoServer }

func (echoing) Say(_ context.Context, req *echopb.SayRequest) (*echopb.SayReply, error) {
	return &echopb.SayReply{Text: req.GetText()}, nil
}

// saying makes unary calls to a server in this process, whose work is measured, too.
func saying(tb testing.TB, target string, opts ...grpc.DialOption) func() error {
	l := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	echopb.RegisterEchoServer(server, echoing{})
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) }) // ends with Stop
	tb.Cleanup(func() { server.Stop(); serving.Wait() })
	conn, err := grpc.NewClient(target, append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	c, req := echopb.NewEchoClient(conn), &echopb.SayRequest{Text: "answer"}
	return func() error {
		_, err := c.Say(context.Background(), req, grpc.WaitForReady(true))
		return err
	}
}

// eachClient runs f for every client, and those that are instrumented in every mode. s is nil if there is no instrumentation.
func eachClient(run func(name string, o *observed, mode string)) {
	for i := range clients {
		o := &clients[i]
		if o.by == "" {
			run(o.name, o, "")
			continue
		}
		for _, mode := range []string{metricsOnly, unsampled, sampled} {
			run(fmt.Sprintf("%s+%s/%s", o.name, o.by, mode), o, mode)
		}
	}
}

// BenchmarkTelemetry measures a call that succeeds at its first attempt. cpu-ns/op is the time of processors, which neighbours
// on the same machine cannot lengthen much.
func BenchmarkTelemetry(b *testing.B) {
	eachClient(func(name string, o *observed, mode string) {
		b.Run(name, func(b *testing.B) {
			var s *sdk
			if mode != "" {
				s = newSDK(b, mode)
			}
			call := o.make(b, s)
			for range 100 { // connections, and what is made for the first call
				if err := call(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			begin := processors(b)
			for b.Loop() {
				if err := call(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((processors(b)-begin).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	})
}

// processors returns the time of processors that this process has used.
func processors(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestTelemetryIsMade checks that clients make what their cost is measured for: one value of the histogram of the conventions and
// the spans of each call, if they are sampled.
func TestTelemetryIsMade(t *testing.T) {
	eachClient(func(name string, o *observed, mode string) {
		t.Run(name, func(t *testing.T) {
			var s *sdk
			if mode != "" {
				s = newSDK(t, mode)
			}
			call := o.make(t, s)
			const n = 10
			for range n {
				if err := call(); err != nil {
					t.Fatal(err)
				}
			}
			if s == nil {
				return
			}
			if got, want := s.recorded(t, o.duration), n; got != want {
				t.Errorf("%s has %d values, want %d", o.duration, got, want)
			}
			want := 0
			if mode == sampled {
				want = n * o.spans
			}
			if got := int(s.spans.Load()); got != want {
				t.Errorf("%d spans, want %d", got, want)
			}
		})
	})
}

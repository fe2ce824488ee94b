package otel

import (
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sdk keeps what it is told, by clients and by servers apart.
type sdk struct {
	spans          *tracetest.SpanRecorder
	tracer         *sdktrace.TracerProvider
	reader         *metric.ManualReader
	client, server *metric.MeterProvider
	propagator     propagation.TextMapPropagator
}

func newSDK(t testing.TB) *sdk {
	s := &sdk{spans: tracetest.NewSpanRecorder(), reader: metric.NewManualReader()}
	s.tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(s.spans))
	s.client, s.server = metric.NewMeterProvider(metric.WithReader(s.reader)), metric.NewMeterProvider()
	s.propagator = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
	return s
}

func (s *sdk) hooks(t testing.TB, instrumented bool) zerohop.Hooks {
	t.Helper()
	h, err := telemetry.New(telemetry.Config{
		MeterProvider: s.client, TracerProvider: s.tracer, Propagator: s.propagator, Instrumented: instrumented,
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (s *sdk) http() []otelhttp.Option {
	return []otelhttp.Option{otelhttp.WithTracerProvider(s.tracer), otelhttp.WithMeterProvider(s.client), otelhttp.WithPropagators(s.propagator)}
}

func (s *sdk) grpc() []otelgrpc.Option {
	return []otelgrpc.Option{otelgrpc.WithTracerProvider(s.tracer), otelgrpc.WithMeterProvider(s.client), otelgrpc.WithPropagators(s.propagator)}
}

// counts returns how many values each histogram and counter of clients has.
func (s *sdk) counts(t *testing.T) map[string]int {
	t.Helper()
	var data metricdata.ResourceMetrics
	if err := s.reader.Collect(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch d := m.Data.(type) {
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					n[m.Name] += int(p.Count)
				}
			case metricdata.Sum[int64]:
				for _, p := range d.DataPoints {
					n[m.Name] += int(p.Value)
				}
			}
		}
	}
	return n
}

// check checks the spans: how many are of a client, how many of a server, that all are of one trace, that each span of a server
// has one of ours or of the other instrumentation as its parent, and that none of a client is below another.
func (s *sdk) check(t *testing.T, root trace.SpanContext, clients, servers int) {
	t.Helper()
	spans := map[trace.SpanID]sdktrace.ReadOnlySpan{}
	for _, span := range s.spans.Ended() {
		spans[span.SpanContext().SpanID()] = span
	}
	gotClients, gotServers := 0, 0
	parents := map[trace.SpanID]bool{}
	for _, span := range spans {
		if span.SpanContext().TraceID() != root.TraceID() {
			t.Errorf("span %q is of another trace", span.Name())
		}
		switch span.SpanKind() {
		case trace.SpanKindServer:
			gotServers++
			id := span.Parent().SpanID()
			if spans[id] == nil || parents[id] {
				t.Errorf("span %q of a server has no parent of its own", span.Name())
			}
			parents[id] = true
		case trace.SpanKindClient:
			gotClients++
			for p := spans[span.Parent().SpanID()]; p != nil; p = spans[p.Parent().SpanID()] {
				if p.SpanKind() == trace.SpanKindClient {
					t.Errorf("span %q of a client is below %q, which is one, too", span.Name(), p.Name())
				}
			}
		}
	}
	if gotClients != clients || gotServers != servers {
		t.Errorf("%d spans of clients and %d of servers, want %d and %d", gotClients, gotServers, clients, servers)
	}
}

func checkCounts(t *testing.T, got, want map[string]int) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%s counts %d, want %d", name, got[name], want[name])
		}
	}
}

// The first answer is 503, so that there are two requests for one call.
func TestHTTPIsMeasuredOnce(t *testing.T) {
	for _, tt := range []struct {
		name         string
		instrumented bool
		around       func(http.RoundTripper, ...otelhttp.Option) *otelhttp.Transport
		below        func(http.RoundTripper, ...otelhttp.Option) *otelhttp.Transport
		requests     int // as http.client.request.duration and spans have it
	}{
		{"alone", false, nil, nil, 2},
		{"otelhttp around the mesh", true, otelhttp.NewTransport, nil, 1},
		{"otelhttp below the mesh", true, nil, otelhttp.NewTransport, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSDK(t)
			var served atomic.Int64
			server := httptest.NewServer(otelhttp.NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if n := r.Header["Traceparent"]; len(n) != 1 {
					t.Errorf("traceparent = %q, want one", n)
				}
				if served.Add(1) == 1 {
					w.WriteHeader(http.StatusServiceUnavailable)
				}
			}), "server", otelhttp.WithTracerProvider(s.tracer), otelhttp.WithMeterProvider(s.server), otelhttp.WithPropagators(s.propagator)))
			defer server.Close()
			addr := server.Listener.Addr().String()
			_, port, _ := net.SplitHostPort(addr)
			mesh, err := zerohop.New(zerohop.Config{
				Resolver: discovery.Static{"orders": {{Addr: addr}, {Addr: "localhost:" + port}}}, Hooks: s.hooks(t, tt.instrumented),
				Spec: zerohop.Spec{Defaults: zerohop.Policy{Backup: zerohop.Backup{Mode: zerohop.Off}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer mesh.Close()
			wire := &http.Transport{}
			defer wire.CloseIdleConnections()
			var base http.RoundTripper = wire
			if tt.below != nil {
				base = tt.below(base, s.http()...)
			}
			transport := httpmesh.NewTransport(mesh, base)
			defer transport.CloseIdleConnections()
			var rt http.RoundTripper = transport
			if tt.around != nil {
				rt = tt.around(rt, s.http()...)
			}
			ctx, root := s.tracer.Tracer("test").Start(t.Context(), "root")
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://orders/", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := rt.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			root.End()
			server.Close() // its spans end after its answers
			if got, want := served.Load(), int64(2); got != want {
				t.Fatalf("%d requests were served, want %d", got, want)
			}
			checkCounts(t, s.counts(t), map[string]int{
				"http.client.request.duration": tt.requests, "zerohop.attempts": 2, "zerohop.call.duration": 1,
			})
			s.check(t, root.SpanContext(), tt.requests, 2)
		})
	}
}

// echo answers the first call with UNAVAILABLE.
type echo struct {
	echopb.UnimplementedEchoServer
	t      *testing.T
	served atomic.Int64
}

func (e *echo) Say(ctx context.Context, req *echopb.SayRequest) (*echopb.SayReply, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if n := md["traceparent"]; len(n) != 1 {
		e.t.Errorf("traceparent = %q, want one", n)
	}
	if e.served.Add(1) == 1 {
		return nil, status.Error(codes.Unavailable, "come again")
	}
	return &echopb.SayReply{Text: req.GetText()}, nil
}

func TestGRPCIsMeasuredOnce(t *testing.T) {
	for _, instrumented := range []bool{false, true} {
		t.Run(map[bool]string{false: "alone", true: "with otelgrpc"}[instrumented], func(t *testing.T) {
			s := newSDK(t)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			server := grpc.NewServer(grpc.StatsHandler(otelgrpc.NewServerHandler(
				otelgrpc.WithTracerProvider(s.tracer), otelgrpc.WithMeterProvider(s.server), otelgrpc.WithPropagators(s.propagator))))
			e := &echo{t: t}
			echopb.RegisterEchoServer(server, e)
			var serving sync.WaitGroup
			serving.Go(func() { _ = server.Serve(l) }) // ends with Stop
			defer serving.Wait()
			defer server.Stop()
			mesh, err := zerohop.New(zerohop.Config{
				Resolver: discovery.Static{"echo": {{Addr: l.Addr().String()}}}, Hooks: s.hooks(t, instrumented),
				Spec: zerohop.Spec{Defaults: zerohop.Policy{Backup: zerohop.Backup{Mode: zerohop.Off}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer mesh.Close()
			opts := append(grpcmesh.DialOptions(mesh), grpc.WithTransportCredentials(insecure.NewCredentials()))
			if instrumented {
				opts = append(opts, grpc.WithStatsHandler(otelgrpc.NewClientHandler(s.grpc()...)))
			}
			conn, err := grpc.NewClient(grpcmesh.Target("echo"), opts...)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			ctx, root := s.tracer.Tracer("test").Start(t.Context(), "root")
			if _, err := echopb.NewEchoClient(conn).Say(ctx, &echopb.SayRequest{Text: "x"}); err != nil {
				t.Fatal(err)
			}
			root.End()
			conn.Close()
			server.GracefulStop()
			if got, want := e.served.Load(), int64(2); got != want {
				t.Fatalf("%d calls were served, want %d", got, want)
			}
			checkCounts(t, s.counts(t), map[string]int{"rpc.client.call.duration": 2, "zerohop.attempts": 2, "zerohop.call.duration": 1})
			s.check(t, root.SpanContext(), 2, 2)
		})
	}
}

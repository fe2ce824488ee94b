package grpcinterop

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/interop"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/grpcmesh"
)

// TestOptionsInEveryOrder puts what programs have besides a mesh before and after it: a trace, interceptors, stats
// handlers, credentials, names of their own, compression, limits and a codec. Each call is answered by its second attempt, and each stream by its
// first. Attempts are RPCs to everything but the interceptors that come before the mesh's, which see calls.
func TestOptionsInEveryOrder(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	traced := []otelgrpc.Option{otelgrpc.WithTracerProvider(provider), otelgrpc.WithPropagators(propagation.TraceContext{})}
	var failed sync.Map // of the calls, their first attempt
	var nodes []*node
	var addrs []string
	for range 3 {
		n := serve(t, grpc.StatsHandler(otelgrpc.NewServerHandler(traced...)),
			grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
				md, _ := metadata.FromIncomingContext(ctx)
				if err := introduced(md); err != nil {
					return nil, err
				}
				if _, again := failed.LoadOrStore(md.Get("call")[0], true); !again {
					return nil, status.Error(codes.Unavailable, "first attempt")
				}
				return h(ctx, req)
			}), grpc.ChainStreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
				md, _ := metadata.FromIncomingContext(s.Context())
				if err := introduced(md); err != nil {
					return err
				}
				return h(srv, s)
			}))
		nodes, addrs = append(nodes, n), append(addrs, n.addr)
	}
	mesh := newMesh(t, zerohop.Config{Spec: zerohop.Spec{Defaults: zerohop.Policy{
		Idempotent: zerohop.On, Retry: zerohop.Retry{Base: time.Millisecond, Max: time.Millisecond},
		Backup: zerohop.Backup{Mode: zerohop.Off}, Budget: zerohop.Budget{Mode: zerohop.Off},
	}}}, addrs...)

	orders, codec := permutations(4), []grpc.CallOption{grpc.CallContentSubtype(counting{}.Name()), grpc.ForceCodecV2(counting{encoding.GetCodecV2(proto.Name)})}
	for i, order := range orders {
		var seen tally
		groups := [][]grpc.DialOption{
			grpcmesh.DialOptions(mesh),
			{grpc.WithStatsHandler(otelgrpc.NewClientHandler(traced...))},
			{grpc.WithChainUnaryInterceptor(seen.unary), grpc.WithChainStreamInterceptor(seen.stream)},
			{grpc.WithStatsHandler(&seen), grpc.WithPerRPCCredentials(token{}), grpc.WithUserAgent("shopper/1"), grpc.WithAuthority("orders.example"),
				grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name), codec[i%2], grpc.WaitForReady(true), grpc.MaxCallSendMsgSize(300_000), grpc.MaxCallRecvMsgSize(320_000))},
		}
		options := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
		for _, g := range order {
			options = append(options, groups[g]...)
		}
		conn, err := grpc.NewClient(grpcmesh.Target(service), options...)
		if err != nil {
			t.Fatal(err)
		}
		ctx, span := provider.Tracer("test").Start(t.Context(), "caller")
		ctx = metadata.AppendToOutgoingContext(ctx, "call", fmt.Sprint(i))
		before := marshalled.Load()
		if err := attempt(ctx, func(ctx context.Context) {
			client := testpb.NewTestServiceClient(conn)
			interop.DoLargeUnaryCall(ctx, client)
			interop.DoPingPong(ctx, client)
		}); err != nil {
			t.Errorf("%v: %v", order, err)
		}
		span.End()
		conn.Close()
		want := int64(1)
		if slices.Index(order, 2) > slices.Index(order, 0) { // inside of the mesh's
			want = 2
		}
		if got := seen.calls.Load(); got != want {
			t.Errorf("%v: the interceptor saw %d calls, want %d", order, got, want)
		}
		if seen.streams.Load() != 1 || seen.begun.Load() != 3 || seen.ended.Load() != 3 || seen.zipped.Load() != 3 || seen.unzipped.Load() != 2 {
			t.Errorf("%v: %d streams, and RPCs: %d begun, %d ended, %d compressed and %d so answered; want 1, 3, 3, 3 and 2", order,
				seen.streams.Load(), seen.begun.Load(), seen.ended.Load(), seen.zipped.Load(), seen.unzipped.Load())
		}
		if marshalled.Load() == before {
			t.Errorf("%v: the codec was not used", order)
		}
	}
	for _, n := range nodes {
		n.kill() // and what it traces is complete
	}
	checkSpans(t, spans.GetSpans(), len(orders))
}

// introduced checks what a call says of who makes it, and to whom.
func introduced(md metadata.MD) error {
	agent := strings.Join(md.Get("user-agent"), ",")
	if !slices.Equal(md.Get("token"), []string{"secret"}) || !slices.Equal(md.Get(":authority"), []string{"orders.example"}) || !strings.HasPrefix(agent, "shopper/1 grpc-go/") {
		return status.Errorf(codes.Unauthenticated, "token %q, authority %q, user agent %q", md.Get("token"), md.Get(":authority"), agent)
	}
	return nil
}

// checkSpans checks that each caller has three spans of attempts below it, and each of those one of a server.
func checkSpans(t *testing.T, spans tracetest.SpanStubs, callers int) {
	t.Helper()
	kinds := map[trace.SpanID]trace.SpanKind{}
	below := map[trace.SpanID]int{}
	traces := map[trace.SpanID]trace.TraceID{}
	for _, s := range spans {
		kinds[s.SpanContext.SpanID()], traces[s.SpanContext.SpanID()] = s.SpanKind, s.SpanContext.TraceID()
		below[s.Parent.SpanID()]++
	}
	count := map[trace.SpanKind]int{}
	children := map[trace.SpanKind]int{trace.SpanKindInternal: 3, trace.SpanKindClient: 1, trace.SpanKindServer: 0}
	parents := map[trace.SpanKind]trace.SpanKind{trace.SpanKindClient: trace.SpanKindInternal, trace.SpanKindServer: trace.SpanKindClient}
	for _, s := range spans {
		count[s.SpanKind]++
		if got, want := below[s.SpanContext.SpanID()], children[s.SpanKind]; got != want {
			t.Errorf("%d spans below %s span %q, want %d", got, s.SpanKind, s.Name, want)
		}
		up := s.Parent.SpanID()
		if s.SpanKind != trace.SpanKindInternal && (kinds[up] != parents[s.SpanKind] || traces[up] != s.SpanContext.TraceID()) {
			t.Errorf("%s span %q is below a %s span", s.SpanKind, s.Name, kinds[up])
		}
	}
	if count[trace.SpanKindInternal] != callers || count[trace.SpanKindClient] != 3*callers || count[trace.SpanKindServer] != 3*callers {
		t.Errorf("spans: %v, want %d of callers and thrice as many of clients and servers", count, callers)
	}
}

// permutations returns all orders of 0 to n-1.
func permutations(n int) [][]int {
	if n == 0 {
		return [][]int{nil}
	}
	var all [][]int
	for _, p := range permutations(n - 1) {
		for i := range n {
			all = append(all, slices.Insert(slices.Clone(p), i, n-1))
		}
	}
	return all
}

// tally counts what interceptors and a stats handler see.
type tally struct{ calls, streams, begun, ended, zipped, unzipped atomic.Int64 }

func (c *tally) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	c.calls.Add(1)
	return invoker(ctx, method, req, reply, cc, opts...)
}

func (c *tally) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	c.streams.Add(1)
	return streamer(ctx, desc, cc, method, opts...)
}

func (c *tally) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (c *tally) HandleRPC(_ context.Context, s stats.RPCStats) {
	switch s := s.(type) {
	case *stats.Begin:
		c.begun.Add(1)
	case *stats.End:
		c.ended.Add(1)
	case *stats.OutHeader:
		if s.Compression == gzip.Name {
			c.zipped.Add(1)
		}
	case *stats.InHeader:
		if s.Compression == gzip.Name {
			c.unzipped.Add(1)
		}
	}
}

func (c *tally) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (c *tally) HandleConn(context.Context, stats.ConnStats)                       {}

// token is a credential of each RPC.
type token struct{}

func (token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"token": "secret"}, nil
}

func (token) RequireTransportSecurity() bool { return false }

// counting is the usual codec under another name.
type counting struct{ encoding.CodecV2 }

var marshalled atomic.Int64

func init() { encoding.RegisterCodecV2(counting{encoding.GetCodecV2(proto.Name)}) }

func (counting) Name() string { return "counting" }

func (c counting) Marshal(v any) (mem.BufferSlice, error) {
	marshalled.Add(1)
	return c.CodecV2.Marshal(v)
}

package telemetry

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/internal/echopb"
)

// echoes are instances of the echo service that answer by the number of the call, whichever of them it goes to.
type echoes struct {
	echopb.UnimplementedEchoServer
	answer func(ctx context.Context, n int) error

	mu   sync.Mutex
	seen []string // traceparent of each call
}

func (e *echoes) Say(ctx context.Context, req *echopb.SayRequest) (*echopb.SayReply, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	e.mu.Lock()
	n := len(e.seen)
	e.seen = append(e.seen, append(md.Get("traceparent"), "")[0])
	e.mu.Unlock()
	return &echopb.SayReply{Text: req.GetText()}, e.answer(ctx, n)
}

func (e *echoes) start(t testing.TB, n int) discovery.Static {
	t.Helper()
	var list []discovery.Endpoint
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := grpc.NewServer()
		echopb.RegisterEchoServer(s, e)
		var serving sync.WaitGroup
		serving.Go(func() { _ = s.Serve(l) })
		t.Cleanup(func() { s.Stop(); serving.Wait() })
		list = append(list, discovery.Endpoint{Addr: l.Addr().String()})
	}
	return discovery.Static{"echo": list}
}

func newEcho(t testing.TB, cfg zerohop.Config) echopb.EchoClient {
	t.Helper()
	conn, err := grpc.NewClient(grpcmesh.Target("echo"),
		append(grpcmesh.DialOptions(newMesh(t, cfg)), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return echopb.NewEchoClient(conn)
}

func TestGRPCRetryHasASpanForEachAttempt(t *testing.T) {
	e := &echoes{answer: func(_ context.Context, n int) error {
		if n == 0 {
			return status.Error(grpccodes.Unavailable, "come again")
		}
		return nil
	}}
	r := newRecorder(t)
	c := newEcho(t, zerohop.Config{Resolver: e.start(t, 1), Hooks: r.hooks(t)})
	if _, err := c.Say(t.Context(), &echopb.SayRequest{}); err != nil {
		t.Fatal(err)
	}
	spans := r.ended(t)
	checkFamily(t, spans, trace.SpanContext{}, 2, e.seen)
	spanHas(t, spans[0], map[attribute.Key]string{service: "echo", outcome: "success", callAttempts: "2", errorType: "-"})
	for i, s := range spans[1:] {
		want := map[attribute.Key]string{
			rpcSystem: "grpc", rpcMethod: "zerohop.echo.v1.Echo/Say", serverAddress: "echo", peerAddress: "127.0.0.1",
			rpcStatus: "UNAVAILABLE", errorType: "UNAVAILABLE", httpResendCount: "-", httpStatus: "-",
		}
		state := codes.Error
		if i == 1 {
			want[rpcStatus], want[errorType], state = "OK", "-", codes.Unset
		}
		if got, want := s.Name(), "zerohop.echo.v1.Echo/Say"; got != want {
			t.Errorf("name of span %d = %q, want %q", i, got, want)
		}
		spanHas(t, s, want)
		checkStatus(t, s, state)
	}
	m := r.instruments(t)["rpc.client.call.duration"]
	for _, code := range []string{"OK", "UNAVAILABLE"} {
		if got, want := total(t, m, rpcStatus.String(code), rpcMethod.String("zerohop.echo.v1.Echo/Say")), int64(1); got != want {
			t.Errorf("attempts that ended with %s = %d, want %d", code, got, want)
		}
	}
}

func TestGRPCBackupIsASecondAttemptAtTheSameTime(t *testing.T) {
	e := &echoes{answer: func(ctx context.Context, n int) error {
		if n == 0 {
			<-ctx.Done()
		}
		return nil
	}}
	r := newRecorder(t)
	c := newEcho(t, zerohop.Config{Resolver: e.start(t, 2), Hooks: r.hooks(t)})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // the backup comes after half of it at the latest
	defer cancel()
	if _, err := c.Say(ctx, &echopb.SayRequest{}, grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
	spans := r.ended(t)
	checkFamily(t, spans, trace.SpanContext{}, 2, e.seen)
	spanHas(t, spans[1], map[attribute.Key]string{attemptBackup: "false", outcome: "neutral", errorType: "CANCELLED"})
	spanHas(t, spans[2], map[attribute.Key]string{attemptBackup: "true", outcome: "success", rpcStatus: "OK"})
	checkStatus(t, spans[0], codes.Unset)
	checkStatus(t, spans[1], codes.Error)
	checkStatus(t, spans[2], codes.Unset)
}

// By the conventions a client sees every code but OK as an error, be it one that the mesh takes for an answer.
func TestGRPCAnswerOfTheApplicationIsAnErrorOfTheClient(t *testing.T) {
	e := &echoes{answer: func(context.Context, int) error { return status.Error(grpccodes.NotFound, "no such order") }}
	r := newRecorder(t)
	c := newEcho(t, zerohop.Config{Resolver: e.start(t, 1), Hooks: r.hooks(t)})
	if _, err := c.Say(t.Context(), &echopb.SayRequest{}); status.Code(err) != grpccodes.NotFound {
		t.Fatalf("Say() = %v, want NotFound", err)
	}
	spans := r.ended(t)
	checkFamily(t, spans, trace.SpanContext{}, 1, e.seen)
	for _, s := range spans {
		spanHas(t, s, map[attribute.Key]string{errorType: "NOT_FOUND", outcome: "success"})
		checkStatus(t, s, codes.Error)
	}
}

package grpcmesh

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
)

// trailers is a stream of gRPC's transport that keeps nothing.
type trailers struct{ grpc.ServerTransportStream }

func (trailers) SetTrailer(metadata.MD) error { return nil }

// inbound returns a context like that of gRPC for a call: with the usual metadata, and more.
func inbound(ctx context.Context, pairs ...string) context.Context {
	md := metadata.Join(metadata.Pairs(":authority", "orders", "content-type", "application/grpc", "user-agent", "grpc-go/1.85.0"), metadata.Pairs(pairs...))
	return grpc.NewContextWithServerTransportStream(metadata.NewIncomingContext(ctx, md), trailers{})
}

// BenchmarkServer is what the server half costs a call, over a handler that does nothing.
func BenchmarkServer(b *testing.B) {
	next := func(context.Context, any) (any, error) { return nil, nil }
	for _, bm := range []struct {
		name    string
		timeout time.Duration
		pairs   []string
		server  *Server
	}{
		{"plain", 0, nil, &Server{}},
		{"deadline", time.Hour, nil, &Server{}},
		{"repetition", time.Hour, []string{attemptsKey, "1"}, &Server{}},
		{"load", 0, nil, &Server{Load: func() LoadReport { return LoadReport{CPU: 0.7, Requests: 1234} }}},
		{"asked", 0, []string{wantLoadKey, "1"}, &Server{}},
		{"admission", 0, nil, &Server{Admission: admission(b, zerohop.AdmissionPolicy{Mode: zerohop.On})}},
		{"admission and deadline", time.Hour, nil, &Server{Admission: admission(b, zerohop.AdmissionPolicy{Mode: zerohop.On})}},
		{"admission observes", 0, nil, &Server{Admission: admission(b, zerohop.AdmissionPolicy{})}},
	} {
		b.Run(bm.name, func(b *testing.B) {
			ctx := inbound(b.Context(), bm.pairs...)
			if bm.timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, bm.timeout)
				defer cancel()
			}
			info := &grpc.UnaryServerInfo{FullMethod: "/echo.Echo/Say"}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := bm.server.unary(ctx, nil, info, next); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkServed is a call of a server in memory with the server half and without it.
func BenchmarkServed(b *testing.B) {
	load := &Server{Load: func() LoadReport { return LoadReport{CPU: 0.7, Requests: 1234} }}
	for name, opts := range map[string][]grpc.ServerOption{"bare": nil, "half": ServerOptions(), "half with load": load.ServerOptions()} {
		b.Run(name, func(b *testing.B) {
			n, s := newNetwork(), &server{options: opts}
			s.start(n.listen("10.0.0.1:80"))
			defer s.stop()
			conn, err := grpc.NewClient("passthrough:///10.0.0.1:80", grpc.WithContextDialer(n.dial), grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			client := echopb.NewEchoClient(conn)
			ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
			defer cancel()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := client.Say(ctx, &echopb.SayRequest{Text: "hello"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestServerCostsTwoAllocations(t *testing.T) {
	ctx, s := inbound(t.Context()), &Server{}
	next := func(context.Context, any) (any, error) { return nil, nil }
	if got := testing.AllocsPerRun(100, func() { s.unary(ctx, nil, nil, next) }); got > 2 {
		t.Errorf("a call costs %v allocations, want at most 2", got)
	}
}

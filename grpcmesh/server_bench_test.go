package grpcmesh

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
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
	} {
		b.Run(bm.name, func(b *testing.B) {
			ctx := inbound(b.Context(), bm.pairs...)
			if bm.timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, bm.timeout)
				defer cancel()
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := bm.server.unary(ctx, nil, nil, next); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestServerCostsThreeAllocations(t *testing.T) {
	ctx, s := inbound(t.Context()), &Server{}
	next := func(context.Context, any) (any, error) { return nil, nil }
	if got := testing.AllocsPerRun(100, func() { s.unary(ctx, nil, nil, next) }); got > 3 {
		t.Errorf("a call costs %v allocations, want at most 3", got)
	}
}

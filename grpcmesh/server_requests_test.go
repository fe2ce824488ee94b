package grpcmesh

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// oneStream is a stream that is never used.
type oneStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s oneStream) Context() context.Context  { return s.ctx }
func (s oneStream) SetTrailer(md metadata.MD) {}

func TestServerCountsCallsAndThoseThatFail(t *testing.T) {
	s := new(Server)
	late, cancel := context.WithTimeout(inbound(t.Context()), -time.Second)
	defer cancel()
	var all, failed int64
	for _, tt := range []struct {
		name        string
		ctx         context.Context
		method      string
		end         func() error
		counts, bad int64
	}{
		{"answered", inbound(t.Context()), "/echo.Echo/Say", func() error { return nil }, 1, 0},
		{"not found", inbound(t.Context()), "/echo.Echo/Say", func() error { return status.Error(codes.NotFound, "") }, 1, 0},
		{"failed", inbound(t.Context()), "/echo.Echo/Say", func() error { return status.Error(codes.Internal, "") }, 1, 1},
		{"panicked", inbound(t.Context()), "/echo.Echo/Say", func() error { panic("x") }, 1, 1},
		{"too late", late, "/echo.Echo/Say", func() error { return nil }, 1, 1},
		{"asks for the load", inbound(t.Context()), loadMethod, func() error { return nil }, 0, 0},
	} {
		calls := []func(){func() {
			_, _ = s.unary(tt.ctx, nil, &grpc.UnaryServerInfo{FullMethod: tt.method}, func(context.Context, any) (any, error) { return nil, tt.end() })
		}}
		if tt.counts > 0 {
			calls = append(calls, func() {
				_ = s.stream(nil, oneStream{ctx: tt.ctx}, &grpc.StreamServerInfo{FullMethod: tt.method}, func(any, grpc.ServerStream) error { return tt.end() })
			})
		}
		for _, call := range calls {
			func() {
				defer func() { _ = recover() }()
				call()
			}()
			all, failed = all+tt.counts, failed+tt.bad
			if a, f := s.Requests(); a != all || f != failed {
				t.Errorf("%s: Requests() = %d, %d, want %d, %d", tt.name, a, f, all, failed)
			}
		}
	}
	if n := s.inFlight(); n != 0 {
		t.Errorf("%d in flight, want 0", n)
	}
}

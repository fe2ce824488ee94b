package grpcmesh

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
)

// chain starts services of three servers each on top of each other, each of which calls the one below, and returns the
// topmost. bottom is what the lowest does.
func chain(t *testing.T, depth int, p zerohop.Policy, bottom func(context.Context, string) error, opts ...grpc.ServerOption) *bed {
	var top *bed
	for do := bottom; depth > 0; depth-- {
		b := served(t, 3, zerohop.Config{Spec: zerohop.Spec{Defaults: p}}, opts...)
		b.warm(t)
		for _, s := range b.servers {
			s.do(do)
		}
		do = func(ctx context.Context, text string) error {
			_, err := b.client.Say(ctx, &echopb.SayRequest{Text: text})
			return err
		}
		top = b
	}
	return top
}

// An outage at the bottom of a chain of services, each of which makes up to three attempts, is not multiplied by each
// of them.
func TestOutageIsNotMultiplied(t *testing.T) {
	const calls = 60
	var (
		on   = zerohop.Policy{Retry: zerohop.Retry{Base: time.Millisecond, Max: time.Millisecond}}
		off  = zerohop.Policy{Retry: on.Retry, Budget: zerohop.Budget{Mode: zerohop.Off}}
		deaf = zerohop.Policy{Retry: on.Retry, Budget: off.Budget, Propagate: zerohop.Off}
	)
	for _, tt := range []struct {
		name        string
		policy      zerohop.Policy
		depth       int
		opts        []grpc.ServerOption
		least, most float64 // calls of the bottom for each of the top
	}{
		{"three hops", on, 3, ServerOptions(), 1, 1.5},
		{"five hops", on, 5, ServerOptions(), 1, 1.5},
		{"three hops, by the guard alone", off, 3, ServerOptions(), 3, 3},
		{"five hops, by the guard alone", off, 5, ServerOptions(), 3, 3},
		{"control: neither budget nor guard", deaf, 3, nil, 27, 27},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var bottom atomic.Int64
				top := chain(t, tt.depth, tt.policy, func(context.Context, string) error {
					bottom.Add(1)
					return status.Error(codes.Unavailable, "down")
				}, tt.opts...)
				for range calls {
					if _, err := top.client.Say(t.Context(), &echopb.SayRequest{}); status.Code(err) != codes.Unavailable {
						t.Fatalf("Say() = %v, want UNAVAILABLE", err)
					}
				}
				got := float64(bottom.Load()) / calls
				if got < tt.least || got > tt.most {
					t.Errorf("%v calls of the bottom for one of the top, want %v to %v", got, tt.least, tt.most)
				}
				t.Logf("calls of the bottom for one of the top: %.2f", got)
			})
		})
	}
}

// What is done for a repetition is not repeated itself. The caller says what it is, as a gateway from HTTP would, or as
// gRPC does.
func TestCallsOfRepetitionsAreNotRepeated(t *testing.T) {
	for key, want := range map[string]int64{attemptsKey: 1, httpAttemptsKey: 1, "x-other": 3} {
		t.Run(key, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var bottom atomic.Int64
				top := chain(t, 2, unlimited.Defaults, func(context.Context, string) error {
					bottom.Add(1)
					return status.Error(codes.Unavailable, "down")
				}, ServerOptions()...)
				client := echopb.NewEchoClient(top.dialTo(t, "passthrough:///10.0.0.1:80"))
				_, err := client.Say(metadata.AppendToOutgoingContext(t.Context(), key, "1"), &echopb.SayRequest{})
				if got := bottom.Load(); status.Code(err) != codes.Unavailable || got != want {
					t.Errorf("Say() = %v after %d calls of the bottom, want UNAVAILABLE after %d", err, got, want)
				}
			})
		})
	}
}

// Failures that callers should not repeat say so, and answers do not.
func TestSpentServersAskForNoRetry(t *testing.T) {
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		want := 0
		switch code {
		case codes.Unknown, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Internal, codes.Unavailable, codes.DataLoss:
			want = 1
		}
		synctest.Test(t, func(t *testing.T) {
			below := setUp(t, 1, zerohop.Config{Spec: unlimited})
			below.servers[0].do(func(context.Context, string) error { return status.Error(codes.Unavailable, "down") })
			n := newNetwork()
			s := n.serve(t, "10.0.1.1:80", ServerOptions()...)
			work := func(ctx context.Context) error {
				if _, err := below.client.Say(ctx, &echopb.SayRequest{}); err == nil {
					t.Error("the call below succeeded")
				}
				return status.Error(code, "")
			}
			client := echopb.NewEchoClient(n.dialTo(t, "passthrough:///10.0.1.1:80"))
			both := func(ctx context.Context, _ string, stream echopb.Echo_ChatServer) error { return work(ctx) }
			s.behave.Store(&both)
			errs, trailers := ask(t.Context(), client)
			for i, md := range trailers {
				if got := md.Get(pushbackKey); status.Code(errs[i]) != code || len(got) != want || want == 1 && got[0] != "-1" {
					t.Errorf("call %d: %v with pushback %q, want %v and %d", i, errs[i], got, code, want)
				}
			}
		})
	}
}

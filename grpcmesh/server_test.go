package grpcmesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
)

// served makes a bed whose instances have the given options.
func served(t *testing.T, n int, cfg zerohop.Config, opts ...grpc.ServerOption) *bed {
	t.Helper()
	b := setUp(t, 0, cfg)
	var addrs []string
	for i := range n {
		b.servers = append(b.servers, b.serve(t, fmt.Sprintf("10.0.0.%d:80", i+1), opts...))
		addrs = append(addrs, b.servers[i].name)
	}
	b.source.Set("orders", endpoints(addrs...)...)
	return b
}

// ask makes a unary call and then a stream of one message, and returns their errors and trailers.
func ask(ctx context.Context, client echopb.EchoClient) (errs [2]error, trailers [2]metadata.MD) {
	_, errs[0] = client.Say(ctx, &echopb.SayRequest{Text: "hello"}, grpc.Trailer(&trailers[0]))
	stream, err := client.Chat(ctx)
	if err != nil {
		errs[1] = err
		return errs, trailers
	}
	_ = stream.Send(&echopb.SayRequest{Text: "hello"}) // Recv tells how it ended
	_ = stream.CloseSend()
	for err == nil {
		_, err = stream.Recv()
	}
	if !errors.Is(err, io.EOF) {
		errs[1] = err
	}
	trailers[1] = stream.Trailer()
	return errs, trailers
}

// seen counts the calls that reach a server, before the server half or after it.
type seen struct{ calls atomic.Int64 }

func (s *seen) options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			s.calls.Add(1)
			return next(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			s.calls.Add(1)
			return next(srv, stream)
		}),
	}
}

// Callers who have less time than a call needs are told so at once, and nobody else is asked or blamed.
func TestServerRefusesWhatHasTooLittleTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		half := &Server{MinTime: time.Second}
		var asked seen
		b := served(t, 3, zerohop.Config{Spec: zerohop.Spec{Defaults: zerohop.Policy{
			Breaker: zerohop.Breaker{Mode: zerohop.On}, Budget: zerohop.Budget{Tokens: 2},
			Idempotent: zerohop.On,
		}}}, append(asked.options(), half.ServerOptions()...)...)
		b.warm(t)
		asked.calls.Store(0)
		const rounds = 20
		start := time.Now()
		for range rounds {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second-time.Millisecond)
			errs, trailers := ask(ctx, b.client)
			for i, err := range errs {
				if status.Code(err) != codes.DeadlineExceeded || ctx.Err() != nil {
					t.Errorf("%d: error %v, context %v, want DEADLINE_EXCEEDED before the deadline", i, err, ctx.Err())
				}
				if got := trailers[i].Get(pushbackKey); !slices.Equal(got, []string{"-1"}) { // for clients without a mesh
					t.Errorf("%d: pushback %q, want none to come again", i, got)
				}
			}
			cancel()
		}
		synctest.Wait()
		if took := time.Since(start); took >= 100*time.Millisecond {
			t.Errorf("%d refusals took %v", 2*rounds, took)
		}
		if got := asked.calls.Load(); got != 2*rounds {
			t.Errorf("%d calls of servers for %d refusals", got, 2*rounds)
		}
		for _, s := range b.servers {
			if got := s.calls.Load(); got != 0 {
				t.Errorf("the handler was called %d times", got)
			}
		}
		for _, n := range b.nodes(t, "orders") {
			if n.BreakerState(time.Now()) != "closed" || n.Penalized(time.Now()) {
				t.Errorf("breaker is %s, node is avoided: %v, want closed, false", n.BreakerState(time.Now()), n.Penalized(time.Now()))
			}
		}
		b.idle(t)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if errs, _ := ask(ctx, b.client); errs != [2]error{} {
			t.Errorf("calls with enough time = %v", errs)
		}
	})
}

// What waits in the server until its caller has given up is not worked on, whatever it waits for.
func TestServerRefusesWhatWaitedForTooLong(t *testing.T) {
	for name, limit := range map[string]func() grpc.ServerOption{
		"for a turn of an interceptor": func() grpc.ServerOption {
			turn := make(chan struct{}, 1)
			return grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
				turn <- struct{}{}
				defer func() { <-turn }()
				return next(ctx, req)
			})
		},
		"for a turn of gRPC": func() grpc.ServerOption { return grpc.MaxConcurrentStreams(1) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork()
				s := n.serve(t, "10.0.0.1:80", append([]grpc.ServerOption{limit()}, ServerOptions()...)...)
				s.do(func(context.Context, string) error { // ignores that its caller has gone
					time.Sleep(10 * time.Second)
					return nil
				})
				client := echopb.NewEchoClient(n.dialTo(t, "passthrough:///10.0.0.1:80"))
				say := func(timeout time.Duration) error {
					ctx, cancel := context.WithTimeout(t.Context(), timeout)
					defer cancel()
					_, err := client.Say(ctx, &echopb.SayRequest{Text: "hello"})
					return err
				}
				for range 2 {
					if err := say(time.Second); status.Code(err) != codes.DeadlineExceeded {
						t.Errorf("Say() = %v, want DEADLINE_EXCEEDED", err)
					}
				}
				if err := say(time.Minute); err != nil {
					t.Errorf("Say() = %v", err)
				}
				if got := s.calls.Load(); got != 2 {
					t.Errorf("the handler was called %d times, want 2: for the first call and the last", got)
				}
			})
		})
	}
}

func TestServerKnowsRepetitions(t *testing.T) {
	for _, tt := range []struct {
		pairs []string
		want  int
	}{
		{nil, 0},
		{[]string{attemptsKey, "2"}, 2},
		{[]string{httpAttemptsKey, "1"}, 1},
		{[]string{attemptsKey, "1", httpAttemptsKey, "3"}, 3},
		{[]string{attemptsKey, "1", attemptsKey, "2"}, 0},
		{[]string{attemptsKey, "-1"}, 0},
		{[]string{attemptsKey, "1e3"}, 0},
		{[]string{attemptsKey, ""}, 0},
		{[]string{attemptsKey, "99999999999999999999999999"}, maxAttempts},
	} {
		if got := sentBefore(inbound(t.Context(), tt.pairs...)); got != tt.want {
			t.Errorf("sentBefore(%q) = %d, want %d", tt.pairs, got, tt.want)
		}
	}
}

// What the caller of a call that is over does not wait for is not begun.
func TestServerRefusesWhatNobodyWaitsFor(t *testing.T) {
	ctx, cancel := context.WithCancel(inbound(t.Context()))
	cancel()
	_, err := new(Server).unary(ctx, nil, nil, func(context.Context, any) (any, error) {
		t.Error("the handler was called")
		return nil, nil
	})
	if status.Code(err) != codes.Canceled {
		t.Errorf("error = %v, want CANCELLED", err)
	}
}

// watcher counts the calls that a stats handler sees end, by code.
type watcher struct {
	mu    sync.Mutex
	ended map[codes.Code]int
}

func (*watcher) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (*watcher) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*watcher) HandleConn(context.Context, stats.ConnStats)                       {}
func (w *watcher) HandleRPC(_ context.Context, s stats.RPCStats) {
	if end, ok := s.(*stats.End); ok {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ended[status.Code(end.Error)]++
	}
}

// The options stand beside any others, in the order that is documented.
func TestServerOptionsGoTogetherWithOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []string
		note := func(name string) grpc.UnaryServerInterceptor {
			return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
				order = append(order, name)
				return next(ctx, req)
			}
		}
		w := &watcher{ended: map[codes.Code]int{}}
		half := &Server{MinTime: time.Second, Load: func() LoadReport {
			order = append(order, "load")
			return LoadReport{CPU: 1}
		}}
		opts := []grpc.ServerOption{grpc.StatsHandler(w), grpc.ChainUnaryInterceptor(note("before"))}
		opts = append(opts, half.ServerOptions()...)
		opts = append(opts, grpc.ChainUnaryInterceptor(note("after")), grpc.UnaryInterceptor(note("first")),
			grpc.MaxConcurrentStreams(1), grpc.NumStreamWorkers(1),
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Minute}),
			grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: time.Minute}))
		b := served(t, 1, zerohop.Config{}, opts...)
		b.say(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		if _, err := b.client.Say(ctx, &echopb.SayRequest{}); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("Say() = %v, want DEADLINE_EXCEEDED", err)
		}
		synctest.Wait()
		want := []string{"first", "before", "after", "load", "first", "before", "load"}
		if !slices.Equal(order, want) {
			t.Errorf("order = %q, want %q", order, want)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.ended[codes.OK] != 1 || w.ended[codes.DeadlineExceeded] != 1 {
			t.Errorf("the stats handler saw %v, want one OK and one DEADLINE_EXCEEDED", w.ended)
		}
	})
}

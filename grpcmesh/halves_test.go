package grpcmesh

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/resilience"
)

// roundRobin makes the client of the bed one that finds its servers without the mesh, which knows none, and balances by
// gRPC's own round_robin; only the interceptors are the mesh's.
func (b *bed) roundRobin(t *testing.T) {
	t.Helper()
	r := manual.NewBuilderWithScheme("plain")
	var state resolver.State
	for _, s := range b.servers {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: s.name})
	}
	r.InitialState(state)
	b.source.Remove("orders")
	b.conn = b.dialTo(t, "plain:///orders.example.com", grpc.WithResolvers(r), grpc.WithDisableRetry(),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
		grpc.WithChainUnaryInterceptor(UnaryInterceptor(b.mesh, "orders")),
		grpc.WithChainStreamInterceptor(StreamInterceptor(b.mesh, "orders")))
	b.client = echopb.NewEchoClient(b.conn)
	b.warm(t)
}

func TestInterceptorsWithoutBalancer(t *testing.T) {
	later := func(ctx context.Context, _ string) error {
		if err := grpc.SetTrailer(ctx, metadata.Pairs(pushbackKey, "700")); err != nil {
			return err
		}
		return errUnavailable
	}
	fails := func(context.Context, string) error { return errUnavailable }
	for name, tc := range map[string]struct {
		order    bool
		first    func(ctx context.Context, text string) error // all else succeeds
		options  zerohop.CallOptions
		timeout  time.Duration
		code     codes.Code
		attempts int64
		took     time.Duration // at least, and 25 ms of backoff at most
	}{
		"answered":        {code: codes.OK, attempts: 1, first: func(context.Context, string) error { return nil }},
		"unavailable":     {code: codes.OK, attempts: 2, first: fails},
		"not idempotent":  {code: codes.Unavailable, attempts: 1, first: fails, order: true},
		"declared so":     {code: codes.OK, attempts: 2, first: fails, order: true, options: zerohop.CallOptions{Idempotent: zerohop.On}},
		"of the service":  {code: codes.NotFound, attempts: 1, first: func(context.Context, string) error { return status.Error(codes.NotFound, "none") }},
		"pushback":        {code: codes.OK, attempts: 2, first: later, took: 700 * time.Millisecond},
		"attempt timeout": {code: codes.OK, attempts: 2, first: hang, took: 100 * time.Millisecond, options: zerohop.CallOptions{AttemptTimeout: 100 * time.Millisecond, Backup: zerohop.Off}},
		"backup":          {code: codes.OK, attempts: 2, first: hang, took: time.Second},
		"deadline":        {code: codes.DeadlineExceeded, attempts: 1, first: hang, took: 300 * time.Millisecond, timeout: 300 * time.Millisecond, order: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var c tally
				b := setUp(t, 3, zerohop.Config{Hooks: c.hooks()})
				b.roundRobin(t)
				before := c.begun
				for i, s := range b.servers {
					s.do(func(ctx context.Context, text string) error {
						if b.servers[(i+1)%3].calls.Load()+b.servers[(i+2)%3].calls.Load()+s.calls.Load() > 1 {
							return nil
						}
						return tc.first(ctx, text)
					})
				}
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if tc.timeout > 0 {
					ctx, cancel = context.WithTimeout(ctx, tc.timeout)
				}
				defer cancel()
				ctx, report := zerohop.WithReport(zerohop.WithCall(ctx, tc.options))
				say := b.client.Say
				if tc.order {
					say = b.client.Order
				}
				start := time.Now()
				r, err := say(ctx, &echopb.SayRequest{Text: "hello"})
				if took := time.Since(start); took < tc.took || took > tc.took+25*time.Millisecond {
					t.Errorf("it took %v, want %v", took, tc.took)
				}
				if got := status.Code(err); got != tc.code || err == nil && r.Text != "hello" {
					t.Errorf("the call got %v, %v, want %v", r, err, tc.code)
				}
				synctest.Wait()
				if got := b.servers[0].calls.Load() + b.servers[1].calls.Load() + b.servers[2].calls.Load(); got != tc.attempts {
					t.Errorf("the servers saw %d attempts, want %d", got, tc.attempts)
				}
				if got := c.settled(t, before+1); got.Attempts != int(tc.attempts) {
					t.Errorf("CallDone got %+v, want %d attempts", got, tc.attempts)
				}
				if got := report.Calls(); len(got) != 1 || len(got[0].Attempts) != int(tc.attempts) {
					t.Errorf("the report has %+v", got)
				}
				if len(c.nodes) != 0 {
					t.Errorf("attempts are said to be on %v, which gRPC chose", c.nodes)
				}
			})
		})
	}
}

// What gRPC could not send is sent again, whatever it is.
func TestInterceptorsWithoutBalancerKnowWhatWasNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 2, zerohop.Config{})
		b.roundRobin(t)
		for _, s := range b.servers {
			s.stop()
		}
		synctest.Wait()
		for _, order := range []bool{false, true} {
			say := b.client.Say
			if order {
				say = b.client.Order
			}
			_, err := say(t.Context(), &echopb.SayRequest{})
			var e *zerohop.Error
			if !errors.As(err, &e) || status.Code(err) != codes.Unavailable || e.Sent || len(e.Attempts) != 3 {
				t.Errorf("order %v: %v, want three attempts that were not sent", order, err)
			}
		}
	})
}

func TestInterceptorsWithoutBalancerHaveBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 3, zerohop.Config{})
		b.roundRobin(t)
		for _, s := range b.servers {
			s.do(func(context.Context, string) error { return errUnavailable })
		}
		const calls = 500
		for range calls {
			if _, err := b.client.Say(t.Context(), &echopb.SayRequest{}); status.Code(err) != codes.Unavailable {
				t.Fatalf("Say() = %v, want UNAVAILABLE", err)
			}
		}
		got := b.servers[0].calls.Load() + b.servers[1].calls.Load() + b.servers[2].calls.Load()
		if got <= calls || got > calls+10 {
			t.Errorf("%d calls made %d attempts, want up to 10 more", calls, got)
		}
	})
}

func TestStreamInterceptorWithoutBalancer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c tally
		b := setUp(t, 2, zerohop.Config{Hooks: c.hooks()})
		b.roundRobin(t)
		before := c.begun
		stream, err := b.client.Chat(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			text := fmt.Sprint(i)
			if err := stream.Send(&echopb.SayRequest{Text: text}); err != nil {
				t.Fatal(err)
			}
			if r, err := stream.Recv(); err != nil || r.Text != text {
				t.Fatalf("Recv() = %v, %v, want %s", r, err, text)
			}
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err == nil {
			t.Error("the stream goes on after its end")
		}
		synctest.Wait()
		if got := c.settled(t, before+1); got.Outcome != resilience.Success || got.Attempts != 1 {
			t.Errorf("CallDone got %+v, want one success", got)
		}
	})
}

func TestBalancerWithoutInterceptors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c tally
		b := setUp(t, 3, zerohop.Config{Hooks: c.hooks()})
		b.conn = b.dialTo(t, Target("orders"), grpc.WithResolvers(Resolver(b.mesh)), grpc.WithDisableRetry())
		b.client = echopb.NewEchoClient(b.conn)
		b.warm(t)
		var busy int
		b.servers[0].do(func(context.Context, string) error { return errUnavailable })
		for _, s := range b.servers[1:] {
			s.do(func(context.Context, string) error {
				for _, n := range b.nodes(t, "orders") {
					busy = max(busy, n.InFlight())
				}
				return nil
			})
		}
		failed := 0
		const calls = 300
		for range calls {
			if _, err := b.client.Say(t.Context(), &echopb.SayRequest{}); err != nil {
				failed++
			}
			time.Sleep(time.Millisecond)
		}
		if got := b.servers[0].calls.Load(); int(got) != failed || got == 0 || got > calls/20 {
			t.Errorf("the failing node saw %d of %d calls and %d failed, want each once, and few", got, calls, failed)
		}
		if busy != 1 {
			t.Errorf("%d calls were in flight at a time, want 1", busy)
		}
		synctest.Wait()
		b.idle(t)
		c.settled(t, 0) // they are none of the mesh
	})
}

func TestBalancerWithoutInterceptorsWithinAttempts(t *testing.T) {
	for _, plain := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := setUp(t, 1, zerohop.Config{})
			token := b.serve(t, "10.0.1.1:80")
			b.source.Set("tokens", endpoints(token.name)...)
			tokens := echopb.NewEchoClient(b.dialTo(t, Target("tokens"), grpc.WithResolvers(Resolver(b.mesh))))
			if plain {
				b.roundRobin(t)
			}
			fetch := credential(func(ctx context.Context) error {
				_, err := tokens.Order(ctx, &echopb.SayRequest{})
				return err
			})
			if _, err := b.client.Order(t.Context(), &echopb.SayRequest{}, grpc.PerRPCCredentials(fetch)); err != nil {
				t.Errorf("Order() = %v", err)
			}
			s, err := b.client.Chat(t.Context(), grpc.PerRPCCredentials(fetch))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tokens.Order(s.Context(), &echopb.SayRequest{}); err != nil {
				t.Errorf("Order() with the context of a stream = %v", err)
			}
			_ = s.CloseSend()
			_, _ = s.Recv()
			if got := token.calls.Load(); got != 3 {
				t.Errorf("tokens were fetched %d times, want 3", got)
			}
			for _, n := range b.nodes(t, "tokens") {
				if got := n.InFlight(); got != 0 {
					t.Errorf("in flight on %s = %d, want 0", n.Addr(), got)
				}
			}
		})
	}
}

// credential asks for permission before each RPC.
type credential func(ctx context.Context) error

func (c credential) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	return nil, c(ctx)
}

func (c credential) RequireTransportSecurity() bool { return false }

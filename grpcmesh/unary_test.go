package grpcmesh

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/resilience"
)

func TestUnaryUsesAllNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c tally
		b := setUp(t, 3, zerohop.Config{Hooks: c.hooks()})
		const calls = 300
		for range calls {
			b.say(t)
		}
		for _, s := range b.servers {
			if s.calls.Load() == 0 {
				t.Errorf("%s got none of %d calls", s.name, calls)
			}
		}
		b.idle(t)
		if got, want := c.settled(t, calls), resilience.Success; got.Outcome != want || got.Attempts != 1 || got.Status != 0 || got.Err != nil {
			t.Errorf("CallDone got %+v, want one successful attempt", got)
		}
	})
}

func TestUnaryFillsCallOptions(t *testing.T) {
	for _, backup := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := setUp(t, 2, zerohop.Config{})
			b.warm(t)
			for i, s := range b.servers {
				s.do(func(ctx context.Context, text string) error {
					md, _ := metadata.FromIncomingContext(ctx)
					if err := grpc.SetHeader(ctx, metadata.Pairs("node", s.name, "said", md.Get("say")[0])); err != nil {
						return err
					}
					if backup && s.calls.Load()+b.servers[1-i].calls.Load() == 1 {
						return hang(ctx, text)
					}
					return grpc.SetTrailer(ctx, metadata.Pairs("node", s.name))
				})
			}
			var header, trailer metadata.MD
			var from peer.Peer
			ctx := metadata.AppendToOutgoingContext(t.Context(), "say", "please")
			r, err := b.client.Say(ctx, &echopb.SayRequest{Text: "hello"}, grpc.Header(&header), grpc.Trailer(&trailer), grpc.Peer(&from))
			if err != nil {
				t.Fatal(err)
			}
			if want := map[bool]int64{false: 1, true: 2}[backup]; b.servers[0].calls.Load()+b.servers[1].calls.Load() != want {
				t.Errorf("the servers saw %d and %d attempts, want %d together", b.servers[0].calls.Load(), b.servers[1].calls.Load(), want)
			}
			if r.Text != "hello" || strings.Join(header.Get("node"), " ") != r.Node || strings.Join(trailer.Get("node"), " ") != r.Node {
				t.Errorf("got reply %v, header %v, trailer %v, want all of one node", r, header, trailer)
			}
			if got, want := header.Get("said"), "please"; len(got) != 1 || got[0] != want {
				t.Errorf("metadata that arrived = %q, want %q", got, want)
			}
			if from.Addr == nil {
				t.Error("the peer was not filled")
			}
		})
	}
}

func TestUnaryKeepsApplicationErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 3, zerohop.Config{})
		for _, code := range []codes.Code{
			codes.Unknown, codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied,
			codes.FailedPrecondition, codes.Aborted, codes.OutOfRange, codes.Unimplemented, codes.Unauthenticated,
		} {
			want, err := status.New(code, "no such order").WithDetails(&echopb.SayRequest{Text: "GONE"})
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range b.servers {
				s.calls.Store(0)
				s.do(func(context.Context, string) error { return want.Err() })
			}
			_, err = b.client.Say(t.Context(), &echopb.SayRequest{})
			if got := status.Convert(err); got.String() != want.String() || len(got.Details()) != 1 {
				t.Errorf("%v: status = %v with details %v, want %v", code, got, got.Details(), want)
			}
			var e *zerohop.Error
			if errors.As(err, &e) {
				t.Errorf("%v: an answer of the application is an error of the mesh: %v", code, e)
			}
			if got := b.servers[0].calls.Load() + b.servers[1].calls.Load() + b.servers[2].calls.Load(); got != 1 {
				t.Errorf("%v: the servers saw %d attempts, want 1", code, got)
			}
		}
	})
}

func TestUnaryTellsWhatWasTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c tally
		b := setUp(t, 3, zerohop.Config{Hooks: c.hooks()})
		b.warm(t)
		calls := c.begun
		want, _ := status.New(codes.Unavailable, "on fire").WithDetails(&echopb.SayRequest{Text: "FIRE"})
		for _, s := range b.servers {
			s.do(func(context.Context, string) error { return want.Err() })
		}
		_, err := b.client.Say(t.Context(), &echopb.SayRequest{})
		if got := status.Convert(err); got.String() != want.String() || len(got.Details()) != 1 {
			t.Errorf("status = %v with details %v, want %v", got, got.Details(), want)
		}
		var e *zerohop.Error
		if !errors.As(err, &e) {
			t.Fatalf("Say() = %v, want a *zerohop.Error", err)
		}
		if e.Service != "orders" || e.Reason != zerohop.Failed || e.Detail != resilience.Exhausted || !e.Sent {
			t.Errorf("got %+v, want a sent call that used up its attempts", e)
		}
		seen := map[string]bool{}
		for _, a := range e.Attempts {
			seen[a.Addr] = true
			if a.Status != int(codes.Unavailable) || a.Outcome != resilience.Failure || !strings.Contains(err.Error(), a.Addr) {
				t.Errorf("attempt %+v, want UNAVAILABLE, and its address in %q", a, err)
			}
		}
		if len(seen) != 3 {
			t.Errorf("%d endpoints in %v, want 3", len(seen), e.Attempts)
		}
		if got := c.settled(t, calls+1); got.Attempts != 3 || got.Outcome != resilience.Failure || got.Status != int(codes.Unavailable) {
			t.Errorf("CallDone got %+v", got)
		}
		b.idle(t)
	})
}

func TestUnaryFailsAtOnce(t *testing.T) {
	broken := errors.New("registry on fire")
	for name, tc := range map[string]struct {
		prepare func(b *bed)
		want    string
	}{
		"unknown service": {func(b *bed) { b.source.Remove("orders") }, "unknown service"},
		"no endpoints":    {func(b *bed) { b.source.Set("orders") }, "no endpoints"},
		"broken source":   {func(b *bed) { b.source.Break(broken) }, broken.Error()},
		"deadline of the source": {
			func(b *bed) { b.source.Break(context.DeadlineExceeded) }, context.DeadlineExceeded.Error(),
		},
		"connections refused": {func(b *bed) { b.source.Set("orders", endpoints("10.9.9.9:80", "10.9.9.8:80")...) }, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := setUp(t, 0, zerohop.Config{})
				tc.prepare(b)
				for _, stream := range []bool{false, true} {
					start := time.Now()
					var err error
					if stream {
						_, err = b.client.Chat(t.Context())
					} else {
						_, err = b.client.Say(t.Context(), &echopb.SayRequest{})
					}
					if got, want := status.Code(err), codes.Unavailable; got != want {
						t.Fatalf("code = %v, want %v: %v", got, want, err)
					}
					var e *zerohop.Error
					if !errors.As(err, &e) || e.Reason != zerohop.NoEndpoints || e.Sent {
						t.Errorf("got %+v, want an unsent call without endpoints", e)
					}
					if !strings.Contains(err.Error(), tc.want) {
						t.Errorf("error %q does not say %q", err, tc.want)
					}
					if took := time.Since(start); took > 100*time.Millisecond {
						t.Errorf("it took %v", took)
					}
				}
			})
		})
	}
}

func TestUnaryEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 2, zerohop.Config{})
		b.warm(t)
		for _, s := range b.servers {
			s.do(hang)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := b.client.Order(ctx, &echopb.SayRequest{})
		if status.Code(err) != codes.DeadlineExceeded || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 100*time.Millisecond {
			t.Errorf("after a deadline: %v after %v", err, time.Since(start))
		}

		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		start = time.Now()
		_, err = b.client.Say(ctx, &echopb.SayRequest{})
		if status.Code(err) != codes.Canceled || !errors.Is(err, context.Canceled) || time.Since(start) != 20*time.Millisecond {
			t.Errorf("after cancel: %v after %v", err, time.Since(start))
		}
		var e *zerohop.Error
		if !errors.As(err, &e) || e.Reason != zerohop.Ended || len(e.Attempts) != 1 {
			t.Errorf("got %+v, want a call ended by its caller after one attempt", e)
		}
		synctest.Wait()
		b.idle(t)
	})
}

func TestCauseOfCancellationIsNoStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 1, zerohop.Config{})
		b.servers[0].do(hang)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, sibling := b.client.Order(ctx, &echopb.SayRequest{})
		if status.Code(sibling) != codes.DeadlineExceeded {
			t.Fatalf("after a deadline: %v", sibling)
		}
		gone, give := context.WithCancelCause(t.Context()) // as errgroup does
		time.AfterFunc(20*time.Millisecond, func() { give(sibling) })
		for range 2 { // in the middle, and before
			_, err := b.client.Order(gone, &echopb.SayRequest{})
			if status.Code(err) != codes.Canceled || !errors.Is(err, context.Canceled) || !errors.Is(err, sibling) {
				t.Errorf("Order() = %v, want CANCELED and the cause", err)
			}
		}
		late, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, fmt.Errorf("too slow: %w", context.Canceled))
		defer cancel()
		if _, err := b.client.Order(late, &echopb.SayRequest{}); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("Order() = %v, want DEADLINE_EXCEEDED", err)
		}
	})
}

func TestWaitForReadyTellsWhatItWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 0, zerohop.Config{})
		b.source.Set("orders", endpoints("10.0.0.1:80")...)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := b.client.Say(ctx, &echopb.SayRequest{}, grpc.WaitForReady(true))
		if status.Code(err) != codes.DeadlineExceeded || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Say() = %v, want DEADLINE_EXCEEDED", err)
		}
		var e *zerohop.Error
		if !errors.As(err, &e) || e.Reason != zerohop.Ended || e.Sent || len(e.Attempts) != 0 {
			t.Errorf("got %+v, want a call that its caller ended before an attempt", e)
		}
		if !strings.Contains(err.Error(), "10.0.0.1:80: connection refused") {
			t.Errorf("error %q does not say that the connection was refused", err)
		}
	})
}

func TestInvalidCallsAreNotUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 1, zerohop.Config{})
		ctx := metadata.AppendToOutgoingContext(t.Context(), "a b", "no name")
		if _, err := b.client.Say(ctx, &echopb.SayRequest{}); status.Code(err) != codes.Internal {
			t.Errorf("Say() with invalid metadata = %v, want INTERNAL", err)
		}
		if err := b.conn.Invoke(t.Context(), echopb.Echo_Say_FullMethodName, "no message", &echopb.SayReply{}); status.Code(err) != codes.Internal {
			t.Errorf("Invoke() of something else than a message = %v, want INTERNAL", err)
		}
		if got := b.servers[0].calls.Load(); got != 0 {
			t.Errorf("the server saw %d calls, want none", got)
		}
		b.idle(t)
	})
}

func TestUnaryAttemptTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c tally
		b := setUp(t, 3, zerohop.Config{Hooks: c.hooks(), Spec: unlimited})
		b.warm(t)
		calls := c.begun
		for _, s := range b.servers {
			s.do(hang)
		}
		ctx := zerohop.WithCall(t.Context(), zerohop.CallOptions{AttemptTimeout: 10 * time.Millisecond})
		_, err := b.client.Say(ctx, &echopb.SayRequest{})
		var e *zerohop.Error
		if !errors.As(err, &e) || len(e.Attempts) != 3 || status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("Say() = %v with code %v, want three attempts and DEADLINE_EXCEEDED", err, status.Code(err))
		}
		b.servers[0].behave.Store(nil)
		r, err := b.client.Say(ctx, &echopb.SayRequest{})
		if err != nil || r.Node != b.servers[0].name {
			t.Errorf("Say() = %v, %v, want an answer of the one node that does not hang", r, err)
		}
		c.settled(t, calls+2)
		b.idle(t)
	})
}

func TestShortDeadlinesDoNotCountAgainstNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 2, zerohop.Config{Spec: zerohop.Spec{Defaults: zerohop.Policy{Breaker: zerohop.Breaker{Mode: zerohop.On}}}})
		for _, s := range b.servers {
			s.do(func(context.Context, string) error {
				time.Sleep(20 * time.Millisecond)
				return nil
			})
		}
		for range 50 {
			b.say(t)
		}
		for range 50 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			if _, err := b.client.Say(ctx, &echopb.SayRequest{}); status.Code(err) != codes.DeadlineExceeded {
				t.Fatalf("Say() = %v", err)
			}
			cancel()
		}
		for _, n := range b.nodes(t, "orders") {
			if now := time.Now(); n.Penalized(now) || !n.Available(now) {
				t.Errorf("%s is avoided because its callers had no time", n.Addr())
			}
		}
		b.say(t)
	})
}

func TestWaitForReady(t *testing.T) {
	for name, prepare := range map[string]func(b *bed){
		"no endpoints":        func(b *bed) { b.source.Set("orders") },
		"unknown":             func(b *bed) { b.source.Remove("orders") },
		"connections refused": func(b *bed) { b.source.Set("orders", endpoints("10.0.0.1:80")...) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := setUp(t, 0, zerohop.Config{})
				prepare(b)
				if _, err := b.client.Say(t.Context(), &echopb.SayRequest{}); status.Code(err) != codes.Unavailable {
					t.Fatalf("Say() = %v, want UNAVAILABLE", err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if _, err := b.client.Say(ctx, &echopb.SayRequest{}, grpc.WaitForReady(true)); status.Code(err) != codes.DeadlineExceeded {
					t.Fatalf("Say() = %v, want DEADLINE_EXCEEDED", err)
				}
				time.AfterFunc(10*time.Second, func() {
					b.serve(t, "10.0.0.1:80")
					b.source.Set("orders", endpoints("10.0.0.1:80")...)
				})
				start := time.Now()
				if _, err := b.client.Say(t.Context(), &echopb.SayRequest{}, grpc.WaitForReady(true)); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); took < 10*time.Second || took > 45*time.Second {
					t.Errorf("it waited %v", took)
				}
				stream, err := b.client.Chat(t.Context(), grpc.WaitForReady(true))
				if err != nil {
					t.Fatal(err)
				}
				if err := stream.CloseSend(); err != nil {
					t.Fatal(err)
				}
				_, _ = stream.Recv()
			})
		})
	}
}

// What a call keeps is one allocation, which the runtime rounds up: a field more can cost each call a tenth.
// Objects of that size have a word before them.
func TestCallsFitTheirSizeClass(t *testing.T) {
	const word = unsafe.Sizeof(uintptr(0))
	if word != 8 {
		t.Skip("the sizes are those of 64 bits")
	}
	if got, limit := unsafe.Sizeof(unary{})+word, uintptr(640); got > limit {
		t.Errorf("a call takes %d bytes, want at most %d", got, limit)
	}
}

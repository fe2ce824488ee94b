package grpcmesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/resilience"
)

// chat opens a stream, says one thing and returns the node that answers.
func (b *bed) chat(t *testing.T, ctx context.Context) (echopb.Echo_ChatClient, string) {
	t.Helper()
	stream, err := b.client.Chat(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&echopb.SayRequest{Text: "hello"}); err != nil {
		t.Fatal(err)
	}
	r, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return stream, r.Node
}

func TestStreamsUseAllNodesAndCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c tally
		b := setUp(t, 3, zerohop.Config{Hooks: c.hooks()})
		b.warm(t)
		calls := c.begun
		open := map[string]int{}
		var streams []echopb.Echo_ChatClient
		for range 30 {
			s, node := b.chat(t, t.Context())
			open[node]++
			streams = append(streams, s)
		}
		for _, n := range b.nodes(t, "orders") {
			if got, want := n.InFlight(), open[n.Addr()]; got != want || want < 5 {
				t.Errorf("in flight on %s = %d, want %d, and more than 5", n.Addr(), got, want)
			}
		}
		c.settledLater(t, calls)
		for _, s := range streams {
			if err := s.CloseSend(); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Recv(); !errors.Is(err, io.EOF) {
				t.Fatalf("Recv() = %v, want EOF", err)
			}
		}
		b.idle(t)
		c.settled(t, calls+30)
	})
}

// settledLater checks that no more than the given number of calls ended.
func (c *tally) settledLater(t *testing.T, calls int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if got := len(c.calls); got != calls {
		t.Errorf("%d calls ended while streams are open, want %d", got, calls)
	}
}

func TestStreamEndings(t *testing.T) {
	cause := status.Error(codes.Internal, "broken")
	for name, tc := range map[string]struct {
		end     func(b *bed, s echopb.Echo_ChatClient, cancel func()) error
		code    codes.Code
		outcome resilience.Outcome
	}{
		"half close": {func(_ *bed, s echopb.Echo_ChatClient, _ func()) error {
			_ = s.CloseSend()
			_, err := s.Recv()
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return err
		}, codes.OK, resilience.Success},
		"cancel": {func(_ *bed, s echopb.Echo_ChatClient, cancel func()) error {
			cancel()
			_, err := s.Recv()
			return err
		}, codes.Canceled, resilience.Neutral},
		"abandon": {func(_ *bed, _ echopb.Echo_ChatClient, cancel func()) error {
			cancel()
			return context.Canceled
		}, codes.Canceled, resilience.Neutral},
		"half close and abandon": {func(_ *bed, s echopb.Echo_ChatClient, cancel func()) error {
			_ = s.CloseSend()
			cancel()
			return context.Canceled
		}, codes.Canceled, resilience.Neutral},
		"deadline": {func(_ *bed, s echopb.Echo_ChatClient, _ func()) error {
			_, err := s.Recv()
			return err
		}, codes.DeadlineExceeded, resilience.Neutral},
		"server error": {func(b *bed, s echopb.Echo_ChatClient, _ func()) error {
			_ = s.Send(&echopb.SayRequest{Text: "fail"})
			_, err := s.Recv()
			return err
		}, codes.Internal, resilience.Failure},
		"server killed": {func(b *bed, s echopb.Echo_ChatClient, _ func()) error {
			b.servers[0].stop()
			_, err := s.Recv()
			return err
		}, codes.Unavailable, resilience.Failure},
		"connection closed": {func(b *bed, s echopb.Echo_ChatClient, _ func()) error {
			b.conn.Close()
			_, err := s.Recv()
			return err
		}, codes.Canceled, resilience.Neutral},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var c tally
				b := setUp(t, 1, zerohop.Config{Hooks: c.hooks()})
				b.servers[0].stream(func(stream echopb.Echo_ChatServer) error {
					for {
						r, err := stream.Recv()
						if err != nil {
							return nil
						}
						if r.Text == "fail" {
							return cause
						}
						_ = stream.Send(&echopb.SayReply{Text: r.Text})
					}
				})
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				stream, _ := b.chat(t, ctx)
				err := tc.end(b, stream, cancel)
				if got := status.Code(err); got != tc.code && !errors.Is(err, context.Canceled) {
					t.Errorf("the stream ended with %v, want %v", err, tc.code)
				}
				synctest.Wait()
				b.idle(t)
				got := c.settled(t, 1)
				if got.Outcome != tc.outcome || got.Status != int(tc.code) || (got.Err == nil) != (tc.code == codes.OK) {
					t.Errorf("CallDone got %+v, want %v and %v", got, tc.outcome, tc.code)
				}
				if a := c.attempts[0]; a.Outcome != tc.outcome || a.Status != int(tc.code) {
					t.Errorf("AttemptDone got %+v, want %v and %v", a, tc.outcome, tc.code)
				}
			})
		})
	}
}

func TestSilentStreamCountsAgainstNode(t *testing.T) {
	for _, tc := range []struct {
		deadline time.Duration
		want     resilience.Outcome
	}{{100 * time.Millisecond, resilience.Neutral}, {5 * time.Second, resilience.Failure}} {
		synctest.Test(t, func(t *testing.T) {
			var c tally
			b := setUp(t, 1, zerohop.Config{Hooks: c.hooks()})
			release := make(chan struct{}) // not the deadline, at which the server would answer
			defer close(release)
			b.servers[0].stream(func(echopb.Echo_ChatServer) error {
				<-release
				return nil
			})
			ctx, cancel := context.WithTimeout(t.Context(), tc.deadline)
			defer cancel()
			stream, err := b.client.Chat(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := stream.Recv(); status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("Recv() = %v, want DEADLINE_EXCEEDED", err)
			}
			synctest.Wait()
			if got := c.settled(t, 1); got.Outcome != tc.want {
				t.Errorf("outcome after %v = %v, want %v", tc.deadline, got.Outcome, tc.want)
			}
		})
	}
}

func TestStreamTimeoutOfPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c tally
		b := setUp(t, 1, zerohop.Config{Hooks: c.hooks(), Spec: zerohop.Spec{Defaults: zerohop.Policy{Timeout: time.Second}}})
		start := time.Now()
		stream, _ := b.chat(t, t.Context())
		if _, err := stream.Recv(); status.Code(err) != codes.DeadlineExceeded || time.Since(start) != time.Second {
			t.Errorf("Recv() = %v after %v, want DEADLINE_EXCEEDED after 1s", err, time.Since(start))
		}
		synctest.Wait()
		c.settled(t, 1)
		b.idle(t)
	})
}

func TestStreamsGoPastNodesThatRefuseConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 2, zerohop.Config{})
		b.warm(t)
		for i := range 20 {
			down := b.servers[i%2]
			down.stop()
			synctest.Wait() // gRPC has noticed: what it wrote before counts as sent
			for range 5 {
				stream, err := b.client.Chat(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				_ = stream.Send(&echopb.SayRequest{Text: "hello"})
				r, err := stream.Recv()
				if err != nil || r.Node == down.name {
					t.Fatalf("Recv() = %v, %v", r, err)
				}
				_ = stream.CloseSend()
				_, _ = stream.Recv()
			}
			down.restart()
			time.Sleep(2 * time.Second)
		}
		b.idle(t)
	})
}

// An interceptor may answer for gRPC, which then tells nobody that the stream is over.
func TestStreamsOfOtherInterceptors(t *testing.T) {
	cause := status.Error(codes.Internal, "broken")
	for name, tc := range map[string]struct {
		desc    grpc.StreamDesc
		open    error
		err     error // of a message
		end     func(s grpc.ClientStream, cancel func())
		outcome resilience.Outcome
		code    codes.Code
	}{
		"not opened":     {bidi, cause, nil, nil, resilience.Neutral, codes.Internal},
		"read to end":    {bidi, nil, io.EOF, receive, resilience.Success, codes.OK},
		"one message":    {upload, nil, nil, receive, resilience.Success, codes.OK},
		"receive fails":  {bidi, nil, cause, receive, resilience.Failure, codes.Internal},
		"send fails":     {bidi, nil, cause, func(s grpc.ClientStream, _ func()) { _ = s.SendMsg(nil) }, resilience.Failure, codes.Internal},
		"abandoned":      {bidi, nil, nil, func(_ grpc.ClientStream, cancel func()) { cancel() }, resilience.Neutral, codes.Canceled},
		"ended and then": {bidi, nil, io.EOF, func(s grpc.ClientStream, cancel func()) { receive(s, nil); cancel() }, resilience.Success, codes.OK},
	} {
		for _, repeatable := range []zerohop.Switch{zerohop.On, zerohop.Off} {
			t.Run(fmt.Sprintf("%s, repeatable %s", name, repeatable), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var c tally
					b := setUp(t, 1, zerohop.Config{Hooks: c.hooks(), Spec: zerohop.Spec{Defaults: zerohop.Policy{Idempotent: repeatable}}},
						grpc.WithChainStreamInterceptor(
							func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, grpc.Streamer, ...grpc.CallOption) (grpc.ClientStream, error) {
								return &canned{err: tc.err}, tc.open
							}))
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					s, err := b.conn.NewStream(ctx, &tc.desc, "/zerohop.echo.v1.Echo/Chat")
					if !errors.Is(err, tc.open) {
						t.Fatalf("NewStream() = %v, want %v", err, tc.open)
					}
					if tc.open == nil {
						tc.end(s, cancel)
					}
					synctest.Wait()
					want := int(tc.code)
					if name == "abandoned" && repeatable == zerohop.On { // without any answer
						want = -1
					}
					if got := c.settled(t, 1); got.Outcome != tc.outcome || got.Status != want {
						t.Errorf("CallDone got %+v, want %v and %v", got, tc.outcome, tc.code)
					}
				})
			})
		}
	}
}

func receive(s grpc.ClientStream, _ func()) { _ = s.RecvMsg(nil) }

// canned is a stream that fails, or not, without a server.
type canned struct {
	grpc.ClientStream
	err error
}

func (c *canned) SendMsg(any) error            { return c.err }
func (c *canned) RecvMsg(any) error            { return c.err }
func (c *canned) Header() (metadata.MD, error) { return nil, nil }
func (c *canned) Trailer() metadata.MD         { return nil }

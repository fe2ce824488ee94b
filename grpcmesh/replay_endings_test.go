package grpcmesh

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// However a stream ends that nobody has answered, the call ends once and nothing stays behind.
func TestUnansweredStreamEndings(t *testing.T) {
	type end struct {
		act     func(t *testing.T, b *bed, s grpc.ClientStream, cancel func())
		outcome resilience.Outcome
		code    codes.Code // none if the call ends with its context
	}
	const none = ^codes.Code(0)
	long := func(*testing.T, *bed, grpc.ClientStream, func()) { time.Sleep(2 * time.Minute) }
	for name, tc := range map[string]end{
		"cancel": {func(t *testing.T, _ *bed, s grpc.ClientStream, cancel func()) {
			cancel()
			if _, err := hear(s); status.Code(err) != codes.Canceled {
				t.Error(err)
			}
		}, resilience.Neutral, none},
		"cancel while receiving": {func(t *testing.T, _ *bed, s grpc.ClientStream, cancel func()) {
			time.AfterFunc(time.Second, cancel)
			if _, err := hear(s); status.Code(err) != codes.Canceled {
				t.Error(err)
			}
		}, resilience.Neutral, none},
		"cancel while sending": {func(t *testing.T, _ *bed, s grpc.ClientStream, cancel func()) {
			time.AfterFunc(time.Second, cancel)
			for s.SendMsg(say("hello")) == nil {
				time.Sleep(100 * time.Millisecond)
			}
		}, resilience.Neutral, none},
		"cancel while waiting for headers": {func(t *testing.T, _ *bed, s grpc.ClientStream, cancel func()) {
			time.AfterFunc(time.Second, cancel)
			if md, err := s.Header(); md != nil || err != nil {
				t.Error(err)
			}
		}, resilience.Neutral, none},
		"abandon": {func(t *testing.T, _ *bed, _ grpc.ClientStream, cancel func()) { cancel() }, resilience.Neutral, none},
		"half close and abandon": {func(t *testing.T, _ *bed, s grpc.ClientStream, cancel func()) {
			_ = s.CloseSend()
			cancel()
		}, resilience.Neutral, none},
		"deadline after silence": {long, resilience.Failure, none},
		"deadline while receiving": {func(t *testing.T, _ *bed, s grpc.ClientStream, _ func()) {
			if _, err := hear(s); status.Code(err) != codes.DeadlineExceeded {
				t.Error(err)
			}
		}, resilience.Failure, none},
		"connection closed": {func(t *testing.T, b *bed, _ grpc.ClientStream, _ func()) { b.conn.Close() }, resilience.Neutral, codes.Canceled},
		"connection closed while receiving": {func(t *testing.T, b *bed, s grpc.ClientStream, _ func()) {
			time.AfterFunc(time.Second, func() { b.conn.Close() })
			if _, err := hear(s); status.Code(err) != codes.Canceled {
				t.Error(err)
			}
		}, resilience.Neutral, codes.Canceled},
		"mesh closed": {func(t *testing.T, b *bed, s grpc.ClientStream, cancel func()) {
			b.mesh.Close()
			_ = s.SendMsg(say("hello"))
			cancel()
		}, resilience.Neutral, none},
		"message too large": {func(t *testing.T, _ *bed, s grpc.ClientStream, _ func()) {
			if err := s.SendMsg(say("hello, hello")); status.Code(err) != codes.ResourceExhausted {
				t.Error(err)
			}
			if err := s.SendMsg(say("hello")); err == nil {
				t.Error("sent on a stream that is over")
			}
		}, resilience.Neutral, codes.ResourceExhausted},
		"sent after half close": {func(t *testing.T, _ *bed, s grpc.ClientStream, _ func()) {
			_ = s.CloseSend()
			if err := s.SendMsg(say("hello")); status.Code(err) != codes.Internal {
				t.Error(err)
			}
		}, resilience.Neutral, codes.Internal},
		"ended without a message": {func(t *testing.T, _ *bed, s grpc.ClientStream, _ func()) {
			_ = s.SendMsg(say("end"))
			if _, err := hear(s); status.Code(err) != codes.OK && !isEOF(err) {
				t.Error(err)
			}
		}, resilience.Success, codes.OK},
		"ended, seen by Header": {func(t *testing.T, _ *bed, s grpc.ClientStream, _ func()) {
			_ = s.SendMsg(say("end"))
			synctest.Wait()
			_, _ = s.Header()
		}, resilience.Success, codes.OK},
		"ended, seen by SendMsg": {func(t *testing.T, _ *bed, s grpc.ClientStream, _ func()) {
			_ = s.SendMsg(say("end"))
			synctest.Wait()
			if err := s.SendMsg(say("more")); !isEOF(err) {
				t.Error(err)
			}
		}, resilience.Success, codes.OK},
		"headers only": {func(t *testing.T, _ *bed, s grpc.ClientStream, cancel func()) {
			_ = s.SendMsg(say("head"))
			if md, err := s.Header(); md == nil || err != nil {
				t.Error(err)
			}
			cancel()
		}, resilience.Neutral, codes.Canceled},
		"headers that nobody looked at": {func(t *testing.T, _ *bed, s grpc.ClientStream, _ func()) {
			_ = s.SendMsg(say("head"))
			_ = s.SendMsg(say("fail"))
			synctest.Wait()
			if err := s.SendMsg(say("more")); !isEOF(err) {
				t.Error(err)
			}
			if _, err := hear(s); status.Code(err) != codes.Unavailable {
				t.Error(err)
			}
		}, resilience.Failure, codes.Unavailable},
		"all fail, seen by SendMsg": {func(t *testing.T, _ *bed, s grpc.ClientStream, _ func()) {
			_ = s.SendMsg(say("fail"))
			synctest.Wait()
			for s.SendMsg(say("more")) == nil {
				synctest.Wait()
			}
			if err := s.CloseSend(); err != nil {
				t.Error(err)
			}
			if _, err := s.Header(); err != nil {
				t.Error(err)
			}
			if _, err := hear(s); status.Code(err) != codes.Unavailable {
				t.Error(err)
			}
			var e *zerohop.Error
			if _, err := hear(s); !errors.As(err, &e) || len(e.Attempts) != 3 || e.Detail != resilience.Exhausted {
				t.Error(err)
			}
			s.Trailer()
			if s.Context().Err() == nil {
				t.Error("context of a failed stream")
			}
		}, resilience.Failure, codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var c tally
				b := setUpStreams(t, 3, zerohop.Config{Hooks: c.hooks(), Spec: repeatable}, func(_ string, s grpc.ServerStream) error {
					for {
						switch text, err := hear(s); {
						case err != nil: // wait for the client: what is tested is its view
							<-s.Context().Done()
							return nil
						case text == "end":
							return nil
						case text == "fail":
							return errUnavailable
						case text == "head":
							_ = s.SendHeader(nil)
						}
					}
				})
				calls, nodes := c.begun, b.nodes(t, "orders")
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				var finishes []error
				s, err := b.conn.NewStream(ctx, &bidi, "/orders.Orders/Any", grpc.MaxCallSendMsgSize(8),
					grpc.OnFinish(func(err error) { finishes = append(finishes, err) }))
				if err != nil {
					t.Fatal(err)
				}
				tc.act(t, b, s, cancel)
				synctest.Wait()
				for _, n := range nodes {
					if got := n.InFlight(); got != 0 {
						t.Errorf("in flight on %s = %d, want 0", n.Addr(), got)
					}
				}
				got := c.settled(t, calls+1)
				outcome, code := tc.outcome, int(tc.code)
				if tc.code == none {
					outcome, code = resilience.Neutral, -1
				}
				if got.Outcome != outcome || got.Status != code {
					t.Errorf("CallDone got %+v, want %v and %d", got, outcome, code)
				}
				if a := c.attempts[len(c.attempts)-1]; a.Outcome != tc.outcome {
					t.Errorf("AttemptDone got %+v, want %v", a, tc.outcome)
				}
				if len(finishes) != 1 || (finishes[0] == nil) != (tc.code == codes.OK) {
					t.Errorf("OnFinish got %v, want one", finishes)
				}
			})
		})
	}
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

package grpcmesh

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/resilience"
)

// The kinds of streams. Servers take them all alike.
var (
	bidi   = grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	upload = grpc.StreamDesc{ClientStreams: true}
	watch1 = grpc.StreamDesc{ServerStreams: true}
)

// repeatable lets every call be repeated, without limit of budget.
var repeatable = zerohop.Spec{Defaults: zerohop.Policy{Idempotent: zerohop.On, Budget: zerohop.Budget{Mode: zerohop.Off}}}

// handler is what an instance does with a stream, whatever its method.
type handler func(node string, s grpc.ServerStream) error

// setUpStreams makes a bed whose n instances handle the streams of all methods.
func setUpStreams(t *testing.T, n int, cfg zerohop.Config, h handler, opts ...grpc.DialOption) *bed {
	t.Helper()
	b := setUp(t, 0, cfg, opts...)
	var addrs []string
	for i := range n {
		addr := fmt.Sprintf("10.0.0.%d:80", i+1)
		addrs = append(addrs, addr)
		b.servers = append(b.servers, b.serve(t, addr, handling(addr, h)))
	}
	b.source.Set("orders", endpoints(addrs...)...)
	b.warm(t) // the connections are up
	return b
}

func handling(node string, h handler) grpc.ServerOption {
	return grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error { return h(node, s) })
}

// open opens a stream that ends with the test.
func (b *bed) open(t *testing.T, desc grpc.StreamDesc, opts ...grpc.CallOption) grpc.ClientStream {
	t.Helper()
	s, err := b.conn.NewStream(t.Context(), &desc, "/orders.Orders/Any", opts...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func say(text string) *echopb.SayRequest { return &echopb.SayRequest{Text: text} }

// hear receives a message.
func hear(s interface{ RecvMsg(any) error }) (string, error) {
	var r echopb.SayReply
	err := s.RecvMsg(&r)
	return r.Text, err
}

// read receives what the client says, up to its end or n messages.
func read(s grpc.ServerStream, n int) (texts []string, err error) {
	for len(texts) < n && err == nil {
		var text string
		if text, err = hear(s); err == nil {
			texts = append(texts, text)
		}
	}
	return texts, err
}

// executed collects what instances were told, by order of streams.
type executed struct {
	mu   sync.Mutex
	list []execution
}

type execution struct {
	node     string
	told     []string
	attempts string // what the server was told about earlier ones
}

func (e *executed) add(node string, s grpc.ServerStream, told []string) (n int) {
	md, _ := metadata.FromIncomingContext(s.Context())
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, execution{node, told, strings.Join(md[attemptsKey], ",")})
	return len(e.list)
}

func TestStreamsAreRepeatedOnAnotherNode(t *testing.T) {
	told := []string{"a", "b", "c"}
	for name, tc := range map[string]struct {
		desc  grpc.StreamDesc
		after int // messages the first instance fails
		use   func(t *testing.T, s grpc.ClientStream)
	}{
		"seen by RecvMsg": {bidi, 3, func(t *testing.T, s grpc.ClientStream) {
			for _, text := range told {
				_ = s.SendMsg(say(text))
			}
			_ = s.CloseSend()
		}},
		"seen by SendMsg": {bidi, 1, func(t *testing.T, s grpc.ClientStream) {
			for _, text := range told {
				if err := s.SendMsg(say(text)); err != nil {
					t.Errorf("SendMsg() = %v", err)
				}
				synctest.Wait()
			}
			_ = s.CloseSend()
		}},
		"seen by Header": {bidi, 2, func(t *testing.T, s grpc.ClientStream) {
			_ = s.SendMsg(say("a"))
			_ = s.SendMsg(say("b"))
			synctest.Wait()
			done := make(chan struct{})
			go func() {
				defer close(done)
				if md, err := s.Header(); md == nil || err != nil {
					t.Errorf("Header() = %v, %v, want those of the second instance", md, err)
				}
			}()
			synctest.Wait()
			_ = s.SendMsg(say("c"))
			_ = s.CloseSend()
			<-done
		}},
		"seen at once": {bidi, 0, func(t *testing.T, s grpc.ClientStream) {
			synctest.Wait()
			_ = s.CloseSend() // which sees nothing
			told = nil
		}},
		"one answer": {upload, 3, func(t *testing.T, s grpc.ClientStream) {
			for _, text := range told {
				_ = s.SendMsg(say(text))
			}
			_ = s.CloseSend()
		}},
		"one request": {watch1, 1, func(t *testing.T, s grpc.ClientStream) {
			if err := s.SendMsg(say("a")); err != nil {
				t.Errorf("SendMsg() = %v", err)
			}
			told = told[:1]
		}},
	} {
		t.Run(name, func(t *testing.T) {
			told = []string{"a", "b", "c"}
			synctest.Test(t, func(t *testing.T) {
				var c tally
				var e executed
				b := setUpStreams(t, 3, zerohop.Config{Hooks: c.hooks(), Spec: repeatable}, func(node string, s grpc.ServerStream) error {
					e.mu.Lock()
					first := len(e.list) == 0
					e.mu.Unlock()
					if first {
						got, _ := read(s, tc.after)
						e.add(node, s, got)
						return errUnavailable
					}
					got, _ := read(s, 100)
					e.add(node, s, got)
					return s.SendMsg(&echopb.SayReply{Text: "done"})
				})
				calls, attempts := c.begun, c.started
				finishes := 0
				s := b.open(t, tc.desc, grpc.OnFinish(func(error) { finishes++ }))
				tc.use(t, s)
				if text, err := hear(s); text != "done" || err != nil {
					t.Fatalf("RecvMsg() = %q, %v", text, err)
				}
				if tc.desc.ServerStreams {
					if _, err := hear(s); !errors.Is(err, io.EOF) {
						t.Errorf("RecvMsg() = %v, want EOF", err)
					}
				}
				if len(e.list) != 2 || e.list[0].node == e.list[1].node || !slices.Equal(e.list[1].told, told) {
					t.Errorf("executions = %+v, want two on different nodes and %q to the second", e.list, told)
				}
				synctest.Wait()
				b.idle(t)
				if got := c.settled(t, calls+1); got.Attempts != 2 || got.Outcome != resilience.Success || c.started != attempts+2 {
					t.Errorf("CallDone got %+v after %d attempts", got, c.started-attempts)
				}
				if finishes != 1 {
					t.Errorf("OnFinish was called %d times", finishes)
				}
			})
		})
	}
}

// What makes a stream the caller's for good, and what forbids to repeat it.
func TestStreamsAreNotRepeated(t *testing.T) {
	plain, off, once := repeatable, repeatable, repeatable
	plain.Defaults.Idempotent = zerohop.Inherit
	off.Defaults.Retry.Mode = zerohop.Off
	once.Defaults.Retry.Attempts = 1
	nothing := func(grpc.ClientStream) {}
	for name, tc := range map[string]struct {
		spec   zerohop.Spec
		own    bool // the stream is gRPC's own
		before func(s grpc.ClientStream)
		fails  func(s grpc.ServerStream) error
		detail resilience.Reason
		code   codes.Code
	}{
		"not idempotent":  {plain, true, nothing, unavailable, resilience.Answered, codes.Unavailable},
		"retries off":     {off, true, nothing, unavailable, resilience.Answered, codes.Unavailable},
		"one attempt":     {once, true, nothing, unavailable, resilience.Answered, codes.Unavailable},
		"application":     {repeatable, false, nothing, func(grpc.ServerStream) error { return status.Error(codes.NotFound, "") }, resilience.Answered, codes.NotFound},
		"no retry wanted": {repeatable, false, nothing, push("-1"), resilience.Declined, codes.Unavailable},
		"headers": {repeatable, false, nothing, func(s grpc.ServerStream) error {
			_ = s.SendHeader(nil)
			return errUnavailable
		}, resilience.Answered, codes.Unavailable},
		"context": {repeatable, false, func(s grpc.ClientStream) { s.Context() }, unavailable, resilience.Answered, codes.Unavailable},
		"trailer": {repeatable, false, func(s grpc.ClientStream) { s.Trailer() }, unavailable, resilience.Answered, codes.Unavailable},
		"too much": {repeatable, false, func(s grpc.ClientStream) {
			for range 65 {
				_ = s.SendMsg(say(strings.Repeat("x", 1<<10)))
			}
		}, unavailable, resilience.Answered, codes.Unavailable},
		"large message":    {repeatable, false, func(s grpc.ClientStream) { _ = s.SendMsg(say(strings.Repeat("x", 1<<20))) }, unavailable, resilience.Answered, codes.Unavailable},
		"no message of pb": {repeatable, false, func(s grpc.ClientStream) { _ = s.SendMsg(prepared(s, say("x"))) }, unavailable, resilience.Answered, codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var c tally
				var e executed
				b := setUpStreams(t, 3, zerohop.Config{Hooks: c.hooks(), Spec: tc.spec}, func(node string, s grpc.ServerStream) error {
					got, _ := read(s, 1000)
					e.add(node, s, got)
					return tc.fails(s)
				})
				calls := c.begun
				s := b.open(t, bidi)
				if _, ours := s.(*replay); ours == tc.own {
					t.Errorf("stream is a %T", s)
				}
				tc.before(s)
				_ = s.CloseSend()
				if _, err := hear(s); status.Code(err) != tc.code {
					t.Errorf("RecvMsg() = %v, want %v", err, tc.code)
				}
				if _, err := hear(s); status.Code(err) != tc.code {
					t.Errorf("second RecvMsg() = %v, want %v", err, tc.code)
				}
				synctest.Wait()
				b.idle(t)
				if got := c.settled(t, calls+1); got.Attempts != 1 || got.Detail != tc.detail || got.Status != int(tc.code) || len(e.list) != 1 {
					t.Errorf("CallDone got %+v after %d executions, want one", got, len(e.list))
				}
			})
		})
	}
}

func unavailable(grpc.ServerStream) error { return errUnavailable }

func push(ms string) func(s grpc.ServerStream) error {
	return func(s grpc.ServerStream) error {
		s.SetTrailer(metadata.Pairs(pushbackKey, ms))
		return errUnavailable
	}
}

func prepared(s grpc.ClientStream, m any) *grpc.PreparedMsg {
	p := &grpc.PreparedMsg{}
	if err := p.Encode(s, m); err != nil {
		panic(err)
	}
	return p
}

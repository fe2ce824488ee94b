package grpcmesh

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
)

// stuckConn is a connection of a client that can stop to write.
type stuckConn struct {
	net.Conn
	stuck  *atomic.Bool
	closed chan struct{}
	once   sync.Once
}

func (c *stuckConn) Write(p []byte) (int, error) {
	if c.stuck.Load() {
		<-c.closed
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

func (c *stuckConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// unwritten has streams lose their connection after they were opened and before anything was written.
type unwritten struct {
	*testing.T
	*bed
	stuck atomic.Bool
	last  *stuckConn // guarded by the bubble: it is dialled while all others wait
	lose  int        // the stream of so many that is lost
	opens int
}

func (u *unwritten) dial(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := u.bed.dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	u.last = &stuckConn{Conn: conn, stuck: &u.stuck, closed: make(chan struct{})}
	return u.last, nil
}

// open is an interceptor of attempts.
func (u *unwritten) open(
	ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	if u.opens++; u.opens != u.lose {
		return streamer(ctx, desc, cc, method, opts...)
	}
	u.stuck.Store(true)
	go u.client.Say(u.Context(), say("what is half written when the connection ends"))
	synctest.Wait()
	s, err := streamer(ctx, desc, cc, method, opts...)
	synctest.Wait()
	u.stuck.Store(false)
	u.last.Close()
	synctest.Wait()
	return s, err
}

func unwrittenAt(t *testing.T, n int) *unwritten {
	u := &unwritten{T: t, lose: n}
	u.bed = setUp(t, 1, zerohop.Config{Spec: unlimited})
	conn, err := grpc.NewClient(Target("orders"), append(DialOptions(u.mesh), grpc.WithChainStreamInterceptor(u.open),
		grpc.WithContextDialer(u.dial), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	u.client = echopb.NewEchoClient(conn)
	u.say(t) // until it is connected
	return u
}

// A stream that was not written, on which the client could not send, ends: the server is not to wait for what nobody sends.
func TestStreamThatWasNotWrittenEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := unwrittenAt(t, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		stream, err := u.client.Chat(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []error{nil, io.EOF} {
			if err := stream.Send(say("0")); err != want {
				t.Errorf("Send() of message %d = %v, want %v", i, err, want)
			}
		}
		if r, err := stream.Recv(); status.Code(err) != codes.Unavailable {
			t.Errorf("Recv() = %v, %v, want that the connection has ended", r, err)
		}
	})
}

// One message is enough for many streams. Those that gRPC opens again by itself are not lost: all of which it learns that they
// were not written before it learns that the connection has ended, which is a matter of chance.
func TestStreamThatWasNotWrittenIsOpenedAgain(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			u := unwrittenAt(t, 1)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			stream, err := u.client.Chat(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.Send(say("hello")); err != nil {
				t.Errorf("Send() = %v", err)
			}
			r, err := stream.Recv()
			if err != nil && unprocessed(err) || err == nil && r.Text != "hello" {
				t.Errorf("Recv() = %v, %v, want an answer", r, err)
			}
		})
	}
}

// Where it may be repeated, the server gets all of it.
func TestStreamThatWasNotWrittenIsRepeatedInFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := unwrittenAt(t, 2)
		var heard []string
		turn := 0
		u.servers[0].stream(func(stream echopb.Echo_ChatServer) error {
			turn++
			heard = nil
			for {
				r, err := stream.Recv()
				if err != nil {
					return stream.Send(&echopb.SayReply{Text: "done"})
				}
				if heard = append(heard, r.Text); turn == 1 && len(heard) == 3 {
					return errUnavailable
				}
			}
		})
		ctx, cancel := context.WithTimeout(zerohop.WithCall(t.Context(), zerohop.CallOptions{Idempotent: zerohop.On}), time.Minute)
		defer cancel()
		stream, err := u.client.Chat(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{"0", "1", "2"} {
			if err := stream.Send(say(text)); err != nil {
				t.Errorf("Send() = %v", err)
			}
		}
		if err := stream.CloseSend(); err != nil {
			t.Errorf("CloseSend() = %v", err)
		}
		if r, err := stream.Recv(); err != nil || r.Text != "done" {
			t.Errorf("Recv() = %v, %v, want the answer", r, err)
		}
		if len(heard) != 3 || u.opens < 3 {
			t.Errorf("the server has heard %q of stream %d", heard, u.opens)
		}
	})
}

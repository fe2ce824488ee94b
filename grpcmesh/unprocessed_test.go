package grpcmesh

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
)

// refuse answers every stream on a listener with REFUSED_STREAM, which proves that it was not looked at, after a
// pause in which its client may go on.
func refuse(l net.Listener, refused *atomic.Int64) {
	rejectAll(l, refused, func(f *http2.Framer, id uint32) { _ = f.WriteRSTStream(id, http2.ErrCodeRefusedStream) })
}

// rejectAll answers every stream on a listener in the given way, after a pause.
func rejectAll(l net.Listener, rejected *atomic.Int64, reject func(f *http2.Framer, id uint32)) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			preface := make([]byte, len(http2.ClientPreface))
			if _, err := io.ReadFull(conn, preface); err != nil {
				return
			}
			f := http2.NewFramer(conn, conn)
			_ = f.WriteSettings()
			for {
				frame, err := f.ReadFrame()
				if err != nil {
					return
				}
				switch frame := frame.(type) {
				case *http2.SettingsFrame:
					if !frame.IsAck() {
						_ = f.WriteSettingsAck()
					}
				case *http2.HeadersFrame:
					rejected.Add(1)
					time.Sleep(10 * time.Millisecond)
					reject(f, frame.StreamID)
				}
			}
		}()
	}
}

func TestUnprocessedCallsGoElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c tally
		b := setUp(t, 1, zerohop.Config{Hooks: c.hooks(), Spec: zerohop.Spec{
			Defaults: zerohop.Policy{Balance: "random"},
		}})
		const bad = "10.0.0.9:80"
		l := b.listen(bad)
		defer l.Close()
		var refused atomic.Int64
		go refuse(l, &refused)
		b.source.Set("orders", endpoints(bad, b.servers[0].name)...)
		b.say(t)
		synctest.Wait() // both nodes are connected
		for range 10 {
			for range 5 {
				if r, err := b.client.Order(t.Context(), &echopb.SayRequest{Text: "hello"}); err != nil || r.Node != b.servers[0].name {
					t.Fatalf("Order() = %v, %v", r, err)
				}
				// The stream is the caller's when it is refused.
				stream, node := b.chat(t, t.Context())
				if node != b.servers[0].name {
					t.Fatalf("%s answered", node)
				}
				inflight := 0
				for _, n := range b.nodes(t, "orders") {
					inflight += n.InFlight()
				}
				if inflight != 1 {
					t.Fatalf("in flight = %d during a stream, want 1", inflight)
				}
				_ = stream.CloseSend()
				if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
					t.Fatalf("Recv() = %v, want EOF", err)
				}
			}
			b.idle(t)
		}
		if got := refused.Load(); got < 10 {
			t.Errorf("only %d of 100 calls were refused", got)
		}
		c.settled(t, c.begun)
	})
}

// gRPC does not keep large messages to repeat them.
func TestUnprocessedLargeCallsGoElsewhere(t *testing.T) {
	large := strings.Repeat("x", 300<<10)
	for name, reject := range map[string]func(*http2.Framer, uint32){
		"refused":  func(f *http2.Framer, id uint32) { _ = f.WriteRSTStream(id, http2.ErrCodeRefusedStream) },
		"too late": func(f *http2.Framer, _ uint32) { _ = f.WriteGoAway(0, http2.ErrCodeNo, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var c tally
				b := setUp(t, 1, zerohop.Config{Hooks: c.hooks(), Spec: zerohop.Spec{
					Defaults: zerohop.Policy{Balance: "random"},
				}})
				const bad = "10.0.0.9:80"
				l := b.listen(bad)
				defer l.Close()
				var rejected atomic.Int64
				go rejectAll(l, &rejected, reject)
				b.source.Set("orders", endpoints(bad, b.servers[0].name)...)
				b.say(t)
				synctest.Wait() // both nodes are connected
				for range 20 {
					r, err := b.client.Order(t.Context(), &echopb.SayRequest{Text: large})
					if err != nil || r.Node != b.servers[0].name {
						t.Fatalf("Order() = %v, %v", r.GetNode(), err)
					}
				}
				if rejected.Load() == 0 {
					t.Error("no call was rejected")
				}
				c.settled(t, c.begun)
			})
		})
	}
}

// A server that uses gRPC's words has answered.
func TestAnswerInWordsOfTheTransportIsProcessed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 2, zerohop.Config{})
		for _, s := range b.servers {
			s.do(func(context.Context, string) error {
				return status.Error(codes.Unavailable, "the connection is draining")
			})
		}
		_, err := b.client.Order(t.Context(), &echopb.SayRequest{Text: "hello"})
		if got := b.servers[0].calls.Load() + b.servers[1].calls.Load(); status.Code(err) != codes.Unavailable || got != 1 {
			t.Errorf("Order() = %v after %d executions, want UNAVAILABLE after 1", err, got)
		}
	})
}

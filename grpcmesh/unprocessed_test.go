package grpcmesh

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
)

// refuse answers every stream on a listener with REFUSED_STREAM, which proves that it was not looked at, after a
// pause in which its client may go on.
func refuse(l net.Listener, refused *atomic.Int64) {
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
					refused.Add(1)
					time.Sleep(10 * time.Millisecond)
					_ = f.WriteRSTStream(frame.StreamID, http2.ErrCodeRefusedStream)
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

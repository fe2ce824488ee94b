package grpcmesh_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
)

// cutter is a proxy that resets each connection after a random number of bytes of what one side sends, the handshake
// included.
type cutter struct {
	net.Listener
	to   string
	most int64 // bytes
	cuts *atomic.Int64
	work sync.WaitGroup
}

// cut starts a cutter in front of an address, which is stopped at the end of the test, and returns its own.
func cut(t *testing.T, to string, most int64, cuts *atomic.Int64) string {
	t.Helper()
	c := &cutter{Listener: port(t), to: to, most: most, cuts: cuts}
	c.work.Go(c.accept)
	t.Cleanup(func() {
		c.Close()
		c.work.Wait()
	})
	return c.Addr().String()
}

func (c *cutter) accept() {
	for {
		client, err := c.Accept()
		if err != nil {
			return
		}
		c.work.Go(func() { c.relay(client.(*net.TCPConn)) })
	}
}

func (c *cutter) relay(client *net.TCPConn) {
	conn, err := net.Dial("tcp", c.to)
	if err != nil {
		client.Close()
		return
	}
	server := conn.(*net.TCPConn)
	reset := sync.OnceFunc(func() { // of both sides, so that neither sees an orderly end
		for _, side := range []*net.TCPConn{client, server} {
			_ = side.SetLinger(0)
			_ = side.Close()
		}
	})
	defer reset()
	limits := []int64{1 << 62, 1 << 62}
	limits[rand.IntN(2)] = rand.Int64N(c.most)
	var other sync.WaitGroup
	defer other.Wait()
	pass := func(dst, src *net.TCPConn, limit int64) {
		defer reset()
		// A reader hides the socket's own way to copy, which would pass on more than the limit.
		if n, _ := io.Copy(dst, io.LimitReader(src, limit)); n == limit {
			c.cuts.Add(1)
		}
	}
	other.Go(func() { pass(server, client, limits[0]) })
	pass(client, server, limits[1])
}

func TestResetConnectionsRepeatNoOrder(t *testing.T) {
	f := launch(t, 4, nil)
	var cuts atomic.Int64
	var addrs []string
	for _, s := range f.instances {
		addrs = append(addrs, cut(t, s.addr, 4000, &cuts))
	}
	u := use(t, zerohop.Config{Spec: hasty}, addrs, grpc.WithConnectParams(grpc.ConnectParams{
		Backoff: backoff.Config{BaseDelay: time.Millisecond, Multiplier: 1, MaxDelay: time.Millisecond},
	}))
	const calls, callers = 5000, 8
	type outcome struct {
		node string
		err  error
	}
	outcomes := make([]outcome, calls)
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := c; i < calls; i += callers {
				id := fmt.Sprint(i)
				r, err := u.Order(t.Context(), &echopb.SayRequest{Text: id}, grpc.WaitForReady(true))
				if err == nil && r.Text != id {
					t.Errorf("Order(%s) = %q", id, r.Text)
				}
				outcomes[i] = outcome{r.GetNode(), err}
			}
		})
	}
	wg.Wait()
	if err := u.conn.Close(); err != nil {
		t.Fatal(err)
	}
	for _, s := range f.instances {
		s.stop() // what was sent before has been executed now, or never will be
	}
	failed, unsure := 0, 0
	for i, o := range outcomes {
		id := fmt.Sprint(i)
		ran := f.journal.of(id)
		var e *zerohop.Error
		switch {
		case len(ran) > 1:
			t.Errorf("order %s was executed by %v", id, ran)
		case o.err == nil && (len(ran) != 1 || ran[0] != o.node):
			t.Errorf("order %s was answered by %q, but executed by %v", id, o.node, ran)
		case o.err != nil && (!errors.As(o.err, &e) || status.Code(o.err) != codes.Unavailable):
			t.Errorf("order %s = %v, want UNAVAILABLE with an account", id, o.err)
		case o.err != nil && !e.Sent && len(ran) > 0:
			t.Errorf("order %s was executed, but reported as not sent: %v", id, o.err)
		case o.err != nil:
			failed++
			unsure += len(ran)
		}
	}
	t.Logf("%d orders over %d connections that were reset: %d failed (%d of them executed)", calls, cuts.Load(), failed, unsure)
	if cuts.Load() < 100 || failed == 0 || unsure == 0 || failed > calls/2 {
		t.Error("the connections were not reset in a way that tests anything")
	}
	u.idle(t)
}

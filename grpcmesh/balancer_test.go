package grpcmesh

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/loadbalance"
)

func TestUpdatesUnderLoadFailNoCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 10, zerohop.Config{})
		for _, s := range b.servers {
			s.do(func(context.Context, string) error {
				time.Sleep(5 * time.Millisecond)
				return nil
			})
		}
		var wg sync.WaitGroup
		stop := make(chan struct{})
		var calls atomic.Int64
		for range 8 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if _, err := b.client.Order(t.Context(), &echopb.SayRequest{}); err != nil {
						t.Errorf("Order() = %v", err)
						return
					}
					calls.Add(1)
				}
			})
		}
		for i := range 200 {
			var some []discovery.Endpoint
			for _, k := range rand.Perm(len(b.servers))[:7] { // fewer looks like an accident
				some = append(some, discovery.Endpoint{Addr: b.servers[k].name, Weight: uint32(i)})
			}
			b.source.Set("orders", some...)
			time.Sleep(10 * time.Millisecond)
		}
		close(stop)
		wg.Wait()
		if got := calls.Load(); got < 2000 {
			t.Errorf("only %d calls were made", got)
		}
		b.idle(t)
	})
}

func TestNodesKeepTheirStateThroughUpdates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 3, zerohop.Config{})
		for _, s := range b.servers {
			s.do(func(context.Context, string) error {
				time.Sleep(20 * time.Millisecond)
				return nil
			})
		}
		for range 30 {
			b.say(t)
		}
		before := map[string]*loadbalance.Node{}
		for _, n := range b.nodes(t, "orders") {
			before[n.Addr()] = n
		}
		synctest.Wait()
		dialled := b.dialled[b.servers[0].name]
		added := b.serve(t, "10.0.0.4:80")
		b.source.Set("orders", endpoints(b.servers[0].name, b.servers[1].name, b.servers[2].name, added.name)...)
		synctest.Wait()
		nodes := b.nodes(t, "orders")
		if len(nodes) != 4 {
			t.Fatalf("%d nodes after the update, want 4", len(nodes))
		}
		for _, n := range nodes {
			if old := before[n.Addr()]; old != nil && old != n {
				t.Errorf("%s lost its node in the update", n.Addr())
			}
			if cost, ok := n.Cost(time.Now()); !ok || cost < 10*time.Millisecond {
				t.Errorf("cost of %s = %v, %v, want about 20ms", n.Addr(), cost, ok)
			}
		}
		if got := b.dialled[b.servers[0].name]; got != dialled {
			t.Errorf("the update dialled %s %d times again", b.servers[0].name, got-dialled)
		}
		for range 100 {
			b.say(t)
		}
		if added.calls.Load() == 0 {
			t.Error("the new node got no calls")
		}
		b.source.Set("orders", endpoints(b.servers[0].name, b.servers[1].name, b.servers[2].name)...)
		synctest.Wait()
		added.calls.Store(0)
		for range 100 {
			b.say(t)
		}
		if got := added.calls.Load(); got != 0 {
			t.Errorf("the node that left got %d calls", got)
		}
	})
}

func TestConnectionsAndProtocolsShareNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 1, zerohop.Config{})
		other := echopb.NewEchoClient(b.dialTo(t, Target("orders"), DialOptions(b.mesh)...))
		one, _ := b.chat(t, t.Context())
		two, err := other.Chat(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = zerohop.Do(t.Context(), b.mesh, "orders", func(_ context.Context, n *loadbalance.Node) (struct{}, error) {
			if got, want := n.InFlight(), 3; got != want {
				t.Errorf("in flight = %d, want %d: two streams and this call", got, want)
			}
			return struct{}{}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []echopb.Echo_ChatClient{one, two} {
			_ = s.CloseSend()
			_, _ = s.Recv()
		}
		b.idle(t)
	})
}

func TestPicksWithoutInterceptorsCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 3, zerohop.Config{})
		conn := b.dialTo(t, Target("orders"), grpc.WithResolvers(Resolver(b.mesh)))
		client := echopb.NewEchoClient(conn)
		stream, err := client.Chat(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.Send(&echopb.SayRequest{})
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		inflight := 0
		for _, n := range b.nodes(t, "orders") {
			inflight += n.InFlight()
		}
		if inflight != 1 {
			t.Errorf("in flight during a stream = %d, want 1", inflight)
		}
		_ = stream.CloseSend()
		_, _ = stream.Recv()
		synctest.Wait() // until all nodes are connected: before that, the failing one may be the only choice
		b.servers[0].do(func(context.Context, string) error { return errUnavailable })
		for range 300 {
			if _, err := client.Say(t.Context(), &echopb.SayRequest{}); err != nil && status.Code(err) != codes.Unavailable {
				t.Fatal(err)
			}
		}
		if got := b.servers[0].calls.Load(); got > 15 {
			t.Errorf("the failing node got %d of 300 calls, want at most 5 %%", got)
		}
		b.idle(t)
	})
}

func TestUnusedPickIsNoSuccess(t *testing.T) {
	lb := loadbalance.New(loadbalance.Config{})
	lb.Update(endpoints("10.0.0.1:80"))
	node := lb.Set().Nodes()[0]
	start := time.Now()
	for i, end := range []balancer.DoneInfo{{Err: errUnavailable, BytesSent: true, BytesReceived: true}, {}} {
		pick, err := lb.Pick(loadbalance.Info{Now: start.Add(time.Duration(i) * time.Millisecond)})
		if err != nil {
			t.Fatal(err)
		}
		told := false
		done(nil, pick, func(balancer.DoneInfo) { told = true })(end)
		if !told || !node.Penalized(time.Now()) || node.InFlight() != 0 {
			t.Errorf("after %+v: child told %v, penalized %v, in flight %d; want true, true, 0", end, told, node.Penalized(time.Now()), node.InFlight())
		}
	}
}

func TestBalancerRefusesForeignTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 1, zerohop.Config{})
		config, _ := (&Client{Mesh: b.mesh}).configs()
		conn := b.dialTo(t, "passthrough:///"+b.servers[0].name, grpc.WithDefaultServiceConfig(config))
		_, err := echopb.NewEchoClient(conn).Say(t.Context(), &echopb.SayRequest{})
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "targets of package grpcmesh only") {
			t.Errorf("Say() = %v, want an error that names the package", err)
		}
	})
}

func TestForeignTargetsPassUntouched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c tally
		b := setUp(t, 1, zerohop.Config{Hooks: c.hooks()})
		client := echopb.NewEchoClient(b.dialTo(t, "passthrough:///"+b.servers[0].name, DialOptions(b.mesh)...))
		if _, err := client.Say(t.Context(), &echopb.SayRequest{}); err != nil {
			t.Error(err)
		}
		stream, err := client.Chat(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.CloseSend()
		_, _ = stream.Recv()
		c.settled(t, 0)
	})
}

func TestCloseInAnyOrder(t *testing.T) {
	for _, meshFirst := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var c tally
			b := setUp(t, 3, zerohop.Config{Hooks: c.hooks()})
			b.warm(t)
			calls := c.begun
			for _, s := range b.servers {
				s.do(func(ctx context.Context, text string) error {
					select {
					case <-time.After(100 * time.Millisecond):
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				})
			}
			var wg sync.WaitGroup
			for range 5 {
				wg.Go(func() {
					_, err := b.client.Order(t.Context(), &echopb.SayRequest{})
					if want := map[bool]codes.Code{false: codes.Canceled, true: codes.OK}[meshFirst]; status.Code(err) != want {
						t.Errorf("call in flight ended with %v, want %v", err, want)
					}
				})
			}
			synctest.Wait()
			if meshFirst {
				b.mesh.Close()
				wg.Wait()
				_, err := b.client.Say(t.Context(), &echopb.SayRequest{})
				if status.Code(err) != codes.Canceled || !errors.Is(err, zerohop.ErrClosed) {
					t.Errorf("Say() on a closed mesh = %v", err)
				}
				b.conn.Close()
			} else {
				b.conn.Close()
				wg.Wait()
				if _, err := b.client.Say(t.Context(), &echopb.SayRequest{}); status.Code(err) != codes.Canceled {
					t.Errorf("Say() on a closed connection = %v", err)
				}
				b.idle(t)
				calls++
				b.mesh.Close()
			}
			synctest.Wait()
			c.settled(t, calls+5)
		})
	}
}

func TestIdleConnectionWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 3, zerohop.Config{}, grpc.WithIdleTimeout(time.Second))
		b.warm(t)
		node := b.nodes(t, "orders")[0]
		for range 5 {
			synctest.Wait()
			dialled := b.dialled[b.servers[0].name]
			time.Sleep(time.Minute)
			for range 50 {
				b.say(t)
			}
			synctest.Wait()
			if b.nodes(t, "orders")[0] != node {
				t.Fatal("the node was lost while the connection was idle")
			}
			if got := b.dialled[b.servers[0].name]; got != dialled+1 {
				t.Errorf("the connection was made %d times, want once: it was not idle", got-dialled)
			}
		}
		b.idle(t)
	})
}

func TestRecoveryWithinTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 2, zerohop.Config{})
		b.warm(t)
		for _, outage := range []time.Duration{time.Second, 10 * time.Second, 10 * time.Minute} {
			for _, s := range b.servers {
				s.stop()
			}
			time.Sleep(outage)
			if _, err := b.client.Say(t.Context(), &echopb.SayRequest{}); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "refused") {
				t.Fatalf("Say() = %v, want UNAVAILABLE, and why", err)
			}
			for _, s := range b.servers {
				s.restart()
			}
			time.Sleep(2 * time.Second)
			b.warm(t)
		}
	})
}

func TestWaitingForConnectionIsNoLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 1, zerohop.Config{})
		b.servers[0].stop()
		time.AfterFunc(3*time.Second, b.servers[0].restart)
		if _, err := b.client.Say(t.Context(), &echopb.SayRequest{}, grpc.WaitForReady(true)); err != nil {
			t.Fatal(err)
		}
		if cost, ok := b.nodes(t, "orders")[0].Cost(time.Now()); ok && cost > time.Second {
			t.Errorf("cost = %v, but only the connection took long", cost)
		}
	})
}

func TestSourceFailureKeepsCallsGoing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 3, zerohop.Config{})
		b.warm(t)
		b.source.Break(errors.New("registry on fire"))
		for range 100 {
			time.Sleep(time.Second)
			b.say(t)
		}
		conn := b.dialTo(t, Target("orders"), DialOptions(b.mesh)...)
		if _, err := echopb.NewEchoClient(conn).Say(t.Context(), &echopb.SayRequest{}); err != nil {
			t.Errorf("Say() on a new connection = %v", err)
		}
	})
}

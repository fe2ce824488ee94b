package grpcmesh

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/internal/testenv"
)

// connections counts those of servers.
type connections struct{ open, made atomic.Int64 }

func (*connections) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (*connections) HandleRPC(context.Context, stats.RPCStats)                         {}
func (*connections) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (c *connections) HandleConn(_ context.Context, s stats.ConnStats) {
	switch s.(type) {
	case *stats.ConnBegin:
		c.open.Add(1)
		c.made.Add(1)
	case *stats.ConnEnd:
		c.open.Add(-1)
	}
}

// A node that leaves ends what it has begun, on the connection that it has, and that is closed then. If it comes back
// before, it gets a new connection.
func TestNodesThatLeaveEndTheirCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 1, zerohop.Config{})
		var conns connections
		leaver := b.serve(t, "10.0.1.1:80", grpc.StatsHandler(&conns))
		both := endpoints(b.servers[0].name, leaver.name)
		for _, back := range []bool{false, true} {
			b.source.Set("orders", both...)
			time.Sleep(time.Minute)
			leaver.calls.Store(0)
			for leaver.calls.Load() == 0 {
				b.say(t)
			}
			if got := conns.open.Load(); got != 1 {
				t.Fatalf("%d connections to the node, want 1", got)
			}
			made := conns.made.Load()
			stream, node := b.chat(t, t.Context())
			for node != leaver.name {
				stream, node = b.chat(t, t.Context())
			}
			for _, s := range []*server{b.servers[0], leaver} {
				s.do(func(context.Context, string) error {
					time.Sleep(time.Hour)
					return nil
				})
			}
			leaver.calls.Store(0)
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					if _, err := b.client.Order(t.Context(), &echopb.SayRequest{}); err != nil {
						t.Errorf("Order() in flight on a node that left = %v", err)
					}
				})
			}
			synctest.Wait()
			if leaver.calls.Load() == 0 {
				t.Fatal("the node has none of 20 calls")
			}
			b.source.Set("orders", both[0])
			time.Sleep(time.Minute)
			if got := conns.open.Load(); got != 1 {
				t.Errorf("%d connections to the node that left, want the one that calls are on", got)
			}
			if back {
				b.source.Set("orders", both...)
				time.Sleep(time.Minute)
				if got := conns.open.Load(); got != 2 {
					t.Errorf("%d connections to the node that came back, want one more than calls are on", got)
				}
			}
			b.servers[0].behave.Store(nil)
			leaver.behave.Store(nil)
			wg.Wait()
			if err := stream.Send(&echopb.SayRequest{}); err != nil {
				t.Error(err)
			}
			if _, err := stream.Recv(); err != nil {
				t.Errorf("Recv() from the node that left = %v", err)
			}
			_ = stream.CloseSend()
			_, _ = stream.Recv()
			synctest.Wait()
			want := map[bool]int64{false: 0, true: 1}[back]
			if open, again := conns.open.Load(), conns.made.Load()-made; open != want || again != want {
				t.Errorf("%d connections are open after the last call and %d were made since, want %d", open, again, want)
			}
			b.source.Set("orders", both[0])
			time.Sleep(time.Minute)
			if got := conns.open.Load(); got != 0 {
				t.Errorf("%d connections to the node that left, want none", got)
			}
		}
	})
}

// Connections of one mesh live on their own, and leave nothing behind.
func TestConnectionsOfOneMesh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 0, zerohop.Config{})
		var conns connections
		var eps []discovery.Endpoint
		for i := range 3 {
			s := b.serve(t, fmt.Sprintf("10.0.1.%d:80", i), grpc.StatsHandler(&conns))
			eps = append(eps, discovery.Endpoint{Addr: s.name})
		}
		b.source.Set("orders", eps...)
		time.Sleep(time.Minute)
		var all []*grpc.ClientConn
		for i := range 10 {
			conn := b.dialTo(t, Target("orders"), DialOptions(b.mesh)...)
			if _, err := echopb.NewEchoClient(conn).Say(t.Context(), &echopb.SayRequest{}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if got, want := conns.open.Load(), int64(len(eps)*(i+1)); got != want {
				t.Errorf("%d connections for %d clients, want %d", got, i+1, want)
			}
			all = append(all, conn)
		}
		for i, conn := range all {
			conn.Close()
			synctest.Wait()
			if got, want := conns.open.Load(), int64(len(eps)*(len(all)-i-1)); got != want {
				t.Errorf("%d connections are left, want %d", got, want)
			}
			if i+1 < len(all) {
				if _, err := echopb.NewEchoClient(all[i+1]).Say(t.Context(), &echopb.SayRequest{}); err != nil {
					t.Errorf("Say() after another connection was closed = %v", err)
				}
			}
		}
		b.idle(t)
	})
}

// What users can tell a connection does what it does with gRPC's own balancers.
func TestConnectionsDoAsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 3, zerohop.Config{}, grpc.WithIdleTimeout(time.Minute))
		reaches := func(want connectivity.State, within time.Duration) {
			t.Helper()
			time.Sleep(within)
			synctest.Wait()
			if got := b.conn.GetState(); got != want {
				t.Fatalf("state = %v after %v, want %v", got, within, want)
			}
		}
		reaches(connectivity.Idle, 0)
		b.conn.Connect()
		reaches(connectivity.Ready, 0)
		b.say(t)
		reaches(connectivity.Idle, time.Minute)
		b.conn.Connect()
		reaches(connectivity.Ready, 0)

		stream, _ := b.chat(t, t.Context())
		reaches(connectivity.Ready, time.Hour) // it is in use
		_ = stream.CloseSend()
		_, _ = stream.Recv()
		reaches(connectivity.Idle, 2*time.Minute)

		b.conn.Connect()
		reaches(connectivity.Ready, 0)
		for _, s := range b.servers {
			s.stop()
		}
		reaches(connectivity.TransientFailure, 30*time.Second)
		for _, s := range b.servers {
			s.restart()
		}
		reaches(connectivity.TransientFailure, 0)
		b.conn.ResetConnectBackoff()
		reaches(connectivity.Ready, 0)
		b.say(t)
		b.conn.Close()
		reaches(connectivity.Shutdown, 0)
		b.conn.ResetConnectBackoff()
		b.conn.Connect()
	})
}

// Picks follow what the source says of an endpoint, although its connection stays.
func TestPicksFollowAttributes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := zerohop.Policy{Balance: "weighted-round-robin"}
		b := setUp(t, 3, zerohop.Config{Spec: zerohop.Spec{Defaults: policy}})
		b.warm(t)
		eps := endpoints(b.servers[0].name, b.servers[1].name, b.servers[2].name)
		shares := func(change func()) (got [3]int64) {
			change()
			b.source.Set("orders", eps...)
			time.Sleep(100 * time.Millisecond) // for the next change to come at once
			for _, s := range b.servers {
				s.calls.Store(0)
			}
			for range 300 {
				b.say(t)
			}
			for i, s := range b.servers {
				got[i] = s.calls.Load()
			}
			return got
		}
		dialled := b.dialled[b.servers[0].name]
		if got := shares(func() { eps[0].Health = discovery.Draining }); got[0] != 0 || got[1] == 0 || got[2] == 0 {
			t.Errorf("calls = %v, want none of the first, which drains", got)
		}
		if got := shares(func() { eps[1].Priority = 1 }); got[0] != 0 || got[1] != 0 {
			t.Errorf("calls = %v, want none but of the last, the only one of its level", got)
		}
		if got := shares(func() { eps[0].Health = discovery.Healthy }); got[0] == 0 || got[1] != 0 || got[2] == 0 {
			t.Errorf("calls = %v, want none of the second, which is for when others fail", got)
		}
		if got := shares(func() { eps[1].Priority, eps[2].Weight = 0, 4 }); got[2] < 3*got[0] || got[2] < 3*got[1] || got[0] == 0 {
			t.Errorf("calls = %v, want four times as many of the last", got)
		}
		if got := b.dialled[b.servers[0].name]; got != dialled {
			t.Errorf("%d connections were made", got-dialled)
		}
	})
}

// Sockets are reached through a dialer, not by what a source says.
func TestAddresses(t *testing.T) {
	ipv6, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		testenv.Need(t, "ipv6", err.Error())
	}
	path := filepath.Join(t.TempDir(), "s")
	unix, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	const named = "socket.internal:1"
	dial := grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		if addr == named {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	})
	for name, l := range map[string]net.Listener{"six": ipv6, "unix": unix} {
		s := &server{name: name}
		s.start(l)
		defer s.stop()
	}
	six := ipv6.Addr().String()
	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{
		"six":    endpoints(six),
		"twice":  endpoints(six, strings.Replace(six, "::1", "0:0::0:1", 1), six),
		"unix":   endpoints(named),
		"remote": endpoints("unix:"+path, "unix://"+path, path),
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer mesh.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for service, want := range map[string]string{"six": "six", "twice": "six", "unix": "unix", "remote": ""} {
		opts := append(DialOptions(mesh), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if service == "unix" {
			opts = append(opts, dial)
		}
		conn, err := grpc.NewClient(Target(service), opts...)
		if err != nil {
			t.Fatal(err)
		}
		r, err := echopb.NewEchoClient(conn).Say(ctx, &echopb.SayRequest{})
		if got := r.GetNode(); got != want || want == "" && status.Code(err) != codes.Unavailable {
			t.Errorf("Say() to %s = %q, %v, want %q", service, got, err, want)
		}
		conn.Close()
	}
}

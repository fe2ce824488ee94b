package grpcmesh

import (
	"context"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/echopb"
)

// tiers returns endpoints of which the second half is less preferred, by priority or zone.
func tiers(addrs []string, byZone bool) []discovery.Endpoint {
	eps := endpoints(addrs...)
	for i := range eps {
		switch {
		case byZone:
			eps[i].Zone = []string{"here", "there"}[2*i/len(eps)]
		case 2*i >= len(eps):
			eps[i].Priority = 1
		}
	}
	return eps
}

// onTCP starts servers on real sockets, but for the first few, which refuse, and a client of all. Connections to the preferred
// half take as long as said. If it is selective, there is another server that it has no use for.
func onTCP(t *testing.T, n, down int, byZone, selective bool, slow time.Duration) (client echopb.EchoClient, preferred map[string]bool) {
	var addrs []string
	preferred = map[string]bool{}
	refusing := map[string]bool{}
	extra := 0
	if selective {
		extra = 1
	}
	for i := range n + extra {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		addrs = append(addrs, addr)
		if 2*i < n {
			preferred[addr] = true
		}
		if i < down {
			// It stays open, or somebody else might get the port and answer.
			t.Cleanup(func() { l.Close() })
			refusing[addr] = true
			continue
		}
		s := &server{name: addr}
		s.start(l)
		t.Cleanup(s.stop)
	}
	cfg := zerohop.Config{Zone: "here"}
	cfg.Spec.Defaults.Backup.Mode = zerohop.Off // a backup goes elsewhere whenever this machine is slow
	eps := tiers(addrs[:n], byZone)
	if selective {
		for i := range eps {
			eps[i].Meta = map[string]string{"version": "1"}
		}
		other := endpoints(addrs[n])[0]
		other.Zone = "here"
		eps = append(eps, other)
		cfg.Spec.Defaults.Select.Match = eps[0].Meta
	}
	cfg.Resolver = discovery.Static{"orders": eps}
	mesh, err := zerohop.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mesh.Close() })
	dial := func(ctx context.Context, addr string) (net.Conn, error) {
		if refusing[addr] {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		}
		if preferred[addr] {
			select {
			case <-time.After(slow):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}
	conn, err := grpc.NewClient(Target("orders"), append(DialOptions(mesh),
		grpc.WithContextDialer(dial), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return echopb.NewEchoClient(conn), preferred
}

// Endpoints of the next priority, or of another zone, get no calls because they were connected first.
func TestFirstCallsWaitForWhatIsPreferred(t *testing.T) {
	for k := range 4 {
		byZone, selective := k%2 == 1, k >= 2
		t.Run(fmt.Sprintf("zone %v, selective %v", byZone, selective), func(t *testing.T) {
			client, preferred := onTCP(t, 8, 0, byZone, selective, 100*time.Millisecond)
			calls := 200
			if byZone { // more answers would show how slow the zone is, and on a machine under load they leave one that has become slow
				calls = 3
			}
			for i := range calls {
				r, err := client.Say(t.Context(), &echopb.SayRequest{})
				if err != nil {
					t.Fatal(err)
				}
				if !preferred[r.Node] {
					t.Fatalf("call %d went to the less preferred half", i)
				}
			}
		})
	}
}

// Where nine of ten preferred endpoints cannot be connected, what one can take goes there: 1.4 tenths.
func TestCallsOverflowFromWhatCannotBeConnected(t *testing.T) {
	for k := range 4 {
		byZone, selective := k%2 == 1, k >= 2
		t.Run(fmt.Sprintf("zone %v, selective %v", byZone, selective), func(t *testing.T) {
			client, preferred := onTCP(t, 20, 9, byZone, selective, 0)
			share := func(calls int) float64 {
				stayed := 0
				for range calls {
					r, err := client.Say(t.Context(), &echopb.SayRequest{})
					if err != nil {
						t.Fatal(err)
					}
					if preferred[r.Node] {
						stayed++
					}
				}
				return float64(stayed) / float64(calls)
			}
			for began := time.Now(); share(100) > 0.5; { // until those that refuse have done so
				if time.Since(began) > 5*time.Second {
					t.Fatal("more than half of the calls stay where one of ten endpoints is left")
				}
			}
			got := share(3000)
			for n := 0; byZone && got < 0.11 && n < 10; n++ { // more leave a zone that this machine has made slow for a while
				got = share(3000)
			}
			t.Logf("share of the preferred half: %.3f", got)
			if got < 0.11 || got > 0.17 {
				t.Errorf("share of the preferred half = %.3f, want 0.14", got)
			}
		})
	}
}

// Endpoints that never answer keep calls from others for a second at start-up, and not at all later.
func TestPreferredThatCannotBeReachedHoldsCallsUpOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 4, zerohop.Config{})
		var addrs []string
		for i, s := range b.servers {
			if addrs = append(addrs, s.name); i < 2 {
				s.stop()
				b.listen(s.name) // where nobody accepts
			}
		}
		b.source.Set("orders", tiers(addrs, false)...)
		for i, want := range []time.Duration{firstConnect, 0, 0} {
			start := time.Now()
			r, err := b.client.Say(t.Context(), &echopb.SayRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took != want || strings.Contains(addrs[0]+addrs[1], r.Node) {
				t.Errorf("call %d took %v and went to %s, want %v and the second half", i, took, r.Node, want)
			}
		}
		// One that could be reached and is lost.
		b.servers[0].restart()
		time.Sleep(2 * time.Minute) // for the pauses between attempts to connect
		for calls := 0; ; calls++ {
			r, err := b.client.Say(t.Context(), &echopb.SayRequest{})
			if err != nil || calls == 100 {
				t.Fatalf("call %d after the first server was back = %v", calls, err)
			}
			if r.Node == addrs[0] {
				break
			}
		}
		b.servers[0].stop()
		b.listen(addrs[0])
		start := time.Now()
		if _, err := b.client.Say(t.Context(), &echopb.SayRequest{}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 200*time.Millisecond {
			t.Errorf("a call after the loss of what is preferred took %v", took)
		}
	})
}

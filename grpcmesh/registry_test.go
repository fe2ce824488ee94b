package grpcmesh

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/echopb"
)

// lateRegistry refuses or is silent until it appears.
type lateRegistry struct {
	discovery.Resolver
	silent bool
	up     chan struct{}
}

func (r lateRegistry) Watch(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
	if r.silent {
		select {
		case <-r.up:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	select {
	case <-r.up:
		return r.Resolver.Watch(ctx, service, update)
	default:
		return errors.New("dial registry: connection refused")
	}
}

// Calls fail at once while there has never been a registry, or wait if they are told to, and go on within two seconds.
func TestStartWithoutARegistry(t *testing.T) {
	for name, silent := range map[string]bool{"refuses": false, "is silent": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork()
				s := n.serve(t, "10.0.0.1:80")
				r := lateRegistry{Resolver: discovery.Static{"orders": endpoints(s.name)}, silent: silent, up: make(chan struct{})}
				mesh, err := zerohop.New(zerohop.Config{Resolver: r})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { mesh.Close() })
				client := echopb.NewEchoClient(n.dialTo(t, Target("orders"), DialOptions(mesh)...))
				start := time.Now()
				_, _ = client.Say(t.Context(), &echopb.SayRequest{})
				if took := time.Since(start); took > 5*time.Second || !silent && took > 10*time.Millisecond {
					t.Errorf("the first call took %v", took)
				}
				time.Sleep(time.Minute)
				for range 10 {
					start := time.Now()
					_, err := client.Say(t.Context(), &echopb.SayRequest{})
					if took := time.Since(start); status.Code(err) != codes.Unavailable || took > 10*time.Millisecond {
						t.Errorf("Say() = %v after %v, want UNAVAILABLE at once", err, took)
					}
					if !strings.Contains(err.Error(), "orders") {
						t.Errorf("Say() = %v, which does not name the service", err)
					}
				}
				time.AfterFunc(time.Minute, func() { close(r.up) })
				start = time.Now()
				if _, err := client.Say(t.Context(), &echopb.SayRequest{}, grpc.WaitForReady(true)); err != nil {
					t.Errorf("Say() that waits = %v", err)
				}
				if took := time.Since(start); took < time.Minute || took > time.Minute+2*time.Second {
					t.Errorf("Say() waited %v for a registry that came after a minute", took)
				}
			})
		})
	}
}

// A node that the registry has dropped gets no new call 100 ms later, even if the set has changed a moment before, and no
// connection to it stays open.
func TestNodeThatLeftGetsNoCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 2, zerohop.Config{})
		var conns connections
		leaver := b.serve(t, "10.0.1.1:80", grpc.StatsHandler(&conns))
		b.source.Set("orders", endpoints(b.servers[0].name, leaver.name)...)
		for leaver.calls.Load() == 0 {
			b.say(t)
		}
		time.Sleep(time.Minute)
		b.source.Set("orders", endpoints(b.servers[0].name, b.servers[1].name, leaver.name)...)
		time.Sleep(time.Millisecond)
		b.source.Set("orders", endpoints(b.servers[0].name, b.servers[1].name)...)
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if got := conns.open.Load(); got != 0 {
			t.Errorf("%d connections to the node that left", got)
		}
		leaver.calls.Store(0)
		for range 1000 {
			b.say(t)
		}
		if got := leaver.calls.Load(); got != 0 {
			t.Errorf("%d calls to the node that left", got)
		}
	})
}

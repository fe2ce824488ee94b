package grpcmesh

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
)

// watches is a health service whose watches can be broken.
type watches struct {
	*health.Server

	mu     sync.Mutex // guards what follows
	err    error      // of watches that begin; nil if they are served
	cancel context.CancelCauseFunc
}

func (w *watches) Watch(r *healthgrpc.HealthCheckRequest, s healthgrpc.Health_WatchServer) error {
	ctx, cancel := context.WithCancelCause(s.Context())
	defer cancel(nil)
	w.mu.Lock()
	err := w.err
	w.cancel = cancel
	w.mu.Unlock()
	if err != nil {
		return err
	}
	err = w.Server.Watch(r, cutShort{s, ctx})
	if s.Context().Err() == nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// breaks ends the watch, and those that begin, until err is nil.
func (w *watches) breaks(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
	if err != nil {
		w.cancel(err)
	}
}

// cutShort is a watch with a context of its own.
type cutShort struct {
	healthgrpc.Health_WatchServer
	ctx context.Context
}

func (w cutShort) Context() context.Context { return w.ctx }

// healthy is an instance with a health service.
func (n *network) healthy(t *testing.T, addr string) (*server, *watches) {
	s, h := &server{name: addr}, &watches{Server: health.NewServer()}
	g, done := grpc.NewServer(grpc.WaitForHandlers(true)), make(chan struct{})
	echopb.RegisterEchoServer(g, s)
	healthgrpc.RegisterHealthServer(g, h)
	l := n.listen(addr)
	go func() {
		defer close(done)
		_ = g.Serve(l) // it ends with Stop
	}()
	t.Cleanup(func() {
		h.Shutdown()
		g.Stop()
		<-done
	})
	return s, h
}

func TestUnhealthyEndpointsGetNoCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 1, zerohop.Config{}) // one without a health service
		plain := b.servers[0]
		watched, h := b.healthy(t, "10.0.1.1:80")
		h.SetServingStatus("echo", healthgrpc.HealthCheckResponse_SERVING)
		b.source.Set("orders", endpoints(plain.name, watched.name)...)
		c := Client{Mesh: b.mesh, Health: &Health{Service: "echo"}}
		client := echopb.NewEchoClient(b.dialTo(t, Target("orders"), c.DialOptions()...))
		share := func() (got int64) {
			synctest.Wait()
			watched.calls.Store(0)
			plain.calls.Store(0)
			for range 100 {
				if _, err := client.Say(t.Context(), &echopb.SayRequest{}); err != nil {
					t.Fatal(err)
				}
			}
			if plain.calls.Load() == 0 {
				t.Error("the endpoint without a health service got no calls")
			}
			return watched.calls.Load()
		}
		// A call waits for one connection only: all of the first hundred can be done before the other is made.
		if _, err := client.Say(t.Context(), &echopb.SayRequest{}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if got := share(); got == 0 {
				t.Error("the healthy endpoint got no calls")
			}
			h.SetServingStatus("echo", healthgrpc.HealthCheckResponse_NOT_SERVING)
			if got := share(); got != 0 {
				t.Errorf("the endpoint got %d calls at once after it stopped serving", got)
			}
			h.SetServingStatus("echo", healthgrpc.HealthCheckResponse_SERVING)
		}
		h.SetServingStatus("echo", healthgrpc.HealthCheckResponse_NOT_SERVING)
		b.say(t)
		synctest.Wait() // both are connected
		watched.calls.Store(0)
		for range 100 {
			b.say(t)
		}
		if watched.calls.Load() == 0 {
			t.Error("the endpoint got no calls on a connection that does not watch")
		}
	})
}

// A watch that breaks says that the endpoint does not serve, until there is one again, and one that the server has no
// notion of that it does.
func TestWatchesThatBreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 1, zerohop.Config{})
		watched, h := b.healthy(t, "10.0.1.1:80")
		h.SetServingStatus("echo", healthgrpc.HealthCheckResponse_SERVING)
		b.source.Set("orders", endpoints(watched.name)...)
		time.Sleep(10 * time.Minute) // until the other one is believed to have gone
		c := Client{Mesh: b.mesh, Health: &Health{Service: "echo"}}
		client := echopb.NewEchoClient(b.dialTo(t, Target("orders"), c.DialOptions()...))
		say := func(opts ...grpc.CallOption) error {
			_, err := client.Say(t.Context(), &echopb.SayRequest{}, opts...)
			return err
		}
		if err := say(); err != nil {
			t.Fatal(err)
		}
		for _, outage := range []time.Duration{0, time.Second, 10 * time.Minute} {
			h.breaks(status.Error(codes.Internal, "watch on fire"))
			synctest.Wait()
			time.Sleep(outage)
			if err := say(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "watch on fire") || !strings.Contains(err.Error(), watched.name) {
				t.Errorf("Say() %v after the watch broke = %v, want UNAVAILABLE, where and why", outage, err)
			}
			h.breaks(nil)
			if err := say(grpc.WaitForReady(true)); err != nil {
				t.Errorf("Say() after the watch came back = %v", err)
			}
			if err := say(); err != nil {
				t.Errorf("Say() while the watch is up = %v", err)
			}
		}
		h.SetServingStatus("echo", healthgrpc.HealthCheckResponse_NOT_SERVING)
		synctest.Wait()
		if err := say(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "NOT_SERVING") {
			t.Errorf("Say() to an endpoint that does not serve = %v, want UNAVAILABLE, and why", err)
		}
		h.breaks(status.Error(codes.Unimplemented, "no watches here"))
		if err := say(grpc.WaitForReady(true)); err != nil {
			t.Errorf("Say() to a server without watches = %v", err)
		}
		b.idle(t)
	})
}

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
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/routing"
)

// spy lets a test get at the resolvers that a connection has.
type spy struct {
	resolver.Builder
	built atomic.Pointer[resolver.Resolver]
}

func (s *spy) Build(target resolver.Target, cc resolver.ClientConn, opts resolver.BuildOptions) (resolver.Resolver, error) {
	r, err := s.Builder.Build(target, cc, opts)
	s.built.Store(&r)
	return r, err
}

// Sets that change all the time, sources that break or say that there is nothing, endpoints that refuse connections
// and requests to resolve again: calls go on, on a connection that has no retries to hide anything.
func TestCallsGoOnThroughRandomUpdates(t *testing.T) {
	updates := 10_000
	if testing.Short() {
		updates = 500
	}
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 6, zerohop.Config{})
		s := &spy{Builder: Resolver(b.mesh)}
		conn := b.dialTo(t, Target("orders"), grpc.WithResolvers(s))
		client := echopb.NewEchoClient(conn)
		if _, err := client.Say(t.Context(), &echopb.SayRequest{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		changes := 0
		quit, err := b.mesh.Subscribe("orders", func(zerohop.Endpoints) { changes++ })
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		var calls atomic.Int64
		for range 2 {
			wg.Go(func() {
				for ; ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
					if _, err := client.Say(t.Context(), &echopb.SayRequest{}); err != nil {
						t.Errorf("Say() = %v", err)
						return
					}
					calls.Add(1)
				}
			})
			wg.Go(func() {
				for ; ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
					for range 10 {
						(*s.built.Load()).ResolveNow(resolver.ResolveNowOptions{})
					}
				}
			})
		}
		wg.Go(func() { // connections come and go meanwhile
			for ; ctx.Err() == nil; time.Sleep(time.Second) {
				conn := b.dialTo(t, Target("orders"), grpc.WithResolvers(Resolver(b.mesh)))
				if _, err := echopb.NewEchoClient(conn).Say(t.Context(), &echopb.SayRequest{}); err != nil {
					t.Errorf("Say() on a new connection = %v", err)
				}
				conn.Close()
			}
		})
		all := endpoints("10.9.9.9:80") // which refuses
		for _, s := range b.servers {
			all = append(all, discovery.Endpoint{Addr: s.name})
		}
		const always = 4 // those at the end stay: sets that halve look like an accident
		out := make([]bool, len(all))
		for range updates {
			var set []discovery.Endpoint
			switch k := rand.IntN(500); {
			case k == 0: // it takes a while until somebody asks again
				b.source.Break(errors.New("registry on fire"))
				time.AfterFunc(100*time.Millisecond, func() { b.source.Break(nil) })
				time.Sleep(time.Second)
			case k >= 20: // else it says that there is nothing
				one := rand.IntN(len(all) - always)
				out[one] = !out[one]
				all[rand.IntN(len(all))].Weight = rand.Uint32N(3)
				for i, ep := range all {
					if !out[i] {
						set = append(set, ep)
					}
				}
			}
			b.source.Set("orders", set...)
			if rand.IntN(3) > 0 { // else the next comes in the middle of this one
				time.Sleep(100 * time.Millisecond)
			}
		}
		stop()
		wg.Wait()
		quit()
		if changes < updates/2 { // those that come one upon the other, or while the source is broken, do not
			t.Errorf("only %d of %d changes arrived", changes, updates)
		}
		if got, want := calls.Load(), int64(updates/5); got < want {
			t.Errorf("only %d calls were made", got)
		}
		b.idle(t)
		conn.Close()
		(*s.built.Load()).ResolveNow(resolver.ResolveNowOptions{})
	})
}

// An address in two services needs one connection, a service that begins to have endpoints gets calls at once, and one
// that ends takes no connection along that another uses.
func TestServicesOfOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 1, zerohop.Config{Spec: zerohop.Spec{Routes: []routing.Rule{
			to("chat", routing.Match{Path: routing.Path{Exact: echopb.Echo_Order_FullMethodName}}, routing.Backend{Service: "shared"}),
		}}})
		shared := b.servers[0].name
		own := b.serve(t, "10.0.1.1:80")
		b.source.Set("shared", endpoints(shared, own.name)...)
		time.Sleep(time.Minute) // it was unknown when the mesh began to look for it
		b.say(t)
		synctest.Wait()
		got := map[string]int{}
		for range 100 {
			r, err := b.client.Order(t.Context(), &echopb.SayRequest{})
			if err != nil {
				t.Fatal(err)
			}
			got[r.Node]++
		}
		if got[shared] == 0 || got[own.name] == 0 || b.dialled[shared] != 1 {
			t.Errorf("calls = %v with %d connections to the shared endpoint, want both and 1", got, b.dialled[shared])
		}
		b.source.Set("shared", endpoints(own.name)...)
		time.Sleep(time.Minute)
		for range 20 {
			if node := b.say(t); node != shared {
				t.Fatalf("Say() went to %s", node)
			}
			if r, err := b.client.Order(t.Context(), &echopb.SayRequest{}); err != nil || r.Node != own.name {
				t.Fatalf("Order() = %v, %v, want an answer of %s", r, err, own.name)
			}
		}
		if b.dialled[shared] != 1 {
			t.Errorf("%d connections to the shared endpoint, want 1", b.dialled[shared])
		}
	})
}

func TestCaseOfServiceDoesNotMatter(t *testing.T) {
	for _, named := range []string{"orders", "Orders"} {
		for _, target := range []string{"orders", "Orders"} {
			t.Run(named+" as "+target, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := setUp(t, 1, zerohop.Config{Spec: zerohop.Spec{Services: map[string]zerohop.Policy{named: {}}}})
					b.source.Set(named, endpoints(b.servers[0].name)...)
					for half, opts := range map[string][]grpc.DialOption{
						"with interceptors": DialOptions(b.mesh), "without": {grpc.WithResolvers(Resolver(b.mesh))},
					} {
						client := echopb.NewEchoClient(b.dialTo(t, Target(target), opts...))
						if _, err := client.Say(t.Context(), &echopb.SayRequest{}, grpc.WaitForReady(true)); err != nil {
							t.Errorf("Say() %s = %v", half, err)
						}
					}
				})
			})
		}
	}
}

func TestCallsOutliveTheirEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 3, zerohop.Config{})
		b.warm(t)
		stream, node := b.chat(t, t.Context())
		var left []string
		for _, s := range b.servers {
			if s.name != node {
				left = append(left, s.name)
			}
		}
		b.source.Set("orders", endpoints(left...)...)
		time.Sleep(time.Minute)
		for range 100 {
			if got := b.say(t); got == node {
				t.Fatal("an endpoint that left got a call")
			}
		}
		if err := stream.Send(&echopb.SayRequest{Text: "still there?"}); err != nil {
			t.Fatal(err)
		}
		if r, err := stream.Recv(); err != nil || r.Node != node {
			t.Errorf("Recv() = %v, %v, want an answer of %s", r, err, node)
		}
		_ = stream.CloseSend()
		_, _ = stream.Recv()
		b.idle(t)
	})
}

func TestResolverReportsWhyNothingIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 1, zerohop.Config{})
		b.source.Break(errors.New("registry on fire"))
		conn := b.dialTo(t, Target("others"), grpc.WithResolvers(Resolver(b.mesh)))
		_, err := echopb.NewEchoClient(conn).Say(t.Context(), &echopb.SayRequest{})
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "registry on fire") {
			t.Errorf("Say() = %v, want UNAVAILABLE, and why", err)
		}
		synctest.Wait() // gRPC uses the new picker before it has the new state
		if got := conn.GetState(); got != connectivity.TransientFailure {
			t.Errorf("state = %v, want TRANSIENT_FAILURE", got)
		}
		b.source.Break(nil)
		b.source.Set("others", endpoints(b.servers[0].name)...)
		if _, err := echopb.NewEchoClient(conn).Say(t.Context(), &echopb.SayRequest{}, grpc.WaitForReady(true)); err != nil {
			t.Errorf("Say() after the source is back = %v", err)
		}
		b.mesh.Close()
		late := b.dialTo(t, Target("others"), grpc.WithResolvers(Resolver(b.mesh)))
		_, err = echopb.NewEchoClient(late).Say(t.Context(), &echopb.SayRequest{})
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), zerohop.ErrClosed.Error()) {
			t.Errorf("Say() on a closed mesh = %v", err)
		}
	})
}

package grpcmesh

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/routing"
)

func to(name string, match routing.Match, backends ...routing.Backend) routing.Rule {
	match.Service = "orders"
	return routing.Rule{Name: name, Match: match, Backends: backends}
}

func TestRoutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 1, zerohop.Config{Spec: zerohop.Spec{Routes: []routing.Rule{
			to("tester", routing.Match{Headers: []routing.Field{{Name: "tester", Value: "yes"}}}, routing.Backend{Service: "beta"}),
			to("lost", routing.Match{Headers: []routing.Field{{Name: "lost", Present: true}}}, routing.Backend{Service: "empty"}),
			to("chat", routing.Match{Path: routing.Path{Exact: echopb.Echo_Chat_FullMethodName}}, routing.Backend{Service: "chats"}),
			to("split", routing.Match{}, routing.Backend{Service: "orders", Weight: 80}, routing.Backend{Service: "canary", Weight: 20}),
		}}})
		at := map[string]*server{"orders": b.servers[0]}
		for service, addr := range map[string]string{"beta": "10.0.1.1:80", "chats": "10.0.2.1:80", "canary": "10.0.3.1:80"} {
			at[service] = b.serve(t, addr)
			b.source.Set(service, endpoints(addr)...)
		}
		b.source.Set("empty")
		time.Sleep(time.Minute) // the services were unknown when the mesh began to look for them

		const calls = 2000
		for range calls {
			b.say(t)
		}
		if got := at["canary"].calls.Load(); got < calls*16/100 || got > calls*24/100 {
			t.Errorf("the canary got %d of %d calls, want about 20 %%", got, calls)
		}
		if got, want := at["orders"].calls.Load()+at["canary"].calls.Load(), int64(calls); got != want {
			t.Errorf("orders and canary got %d calls, want %d", got, want)
		}
		ctx := metadata.AppendToOutgoingContext(t.Context(), "tester", "yes")
		if r, err := b.client.Order(ctx, &echopb.SayRequest{}); err != nil || r.Node != at["beta"].name {
			t.Errorf("Order() of a tester = %v, %v, want an answer of beta", r, err)
		}
		stream, node := b.chat(t, t.Context())
		if want := at["chats"].name; node != want {
			t.Errorf("Chat() was answered by %s, want %s", node, want)
		}
		_ = stream.CloseSend()
		_, _ = stream.Recv()
		ctx = metadata.AppendToOutgoingContext(t.Context(), "lost", "yes")
		start := time.Now()
		_, err := b.client.Say(ctx, &echopb.SayRequest{})
		var e *zerohop.Error
		if status.Code(err) != codes.Unavailable || !errors.As(err, &e) || e.Service != "empty" || time.Since(start) > time.Second {
			t.Errorf("Say() to a service without endpoints = %v after %v", err, time.Since(start))
		}
		for service := range at {
			for _, n := range b.nodes(t, service) {
				if n.InFlight() != 0 {
					t.Errorf("in flight on %s = %d, want 0", n.Addr(), n.InFlight())
				}
			}
		}
	})
}

// A call that waits for a service must find its endpoints in gRPC as soon as the mesh has them.
func TestRoutedServiceThatAppears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 1, zerohop.Config{Spec: zerohop.Spec{Routes: []routing.Rule{
			to("late", routing.Match{Path: routing.Path{Exact: echopb.Echo_Order_FullMethodName}}, routing.Backend{Service: "late"}),
		}}})
		late := b.serve(t, "10.0.1.1:80")
		b.source.Set("late")
		b.say(t)
		for range 50 {
			synctest.Wait()
			time.AfterFunc(time.Second, func() { b.source.Set("late", endpoints(late.name)...) })
			ctx := zerohop.WithCall(t.Context(), zerohop.CallOptions{WaitReady: true})
			if r, err := b.client.Order(ctx, &echopb.SayRequest{}); err != nil || r.Node != late.name {
				t.Fatalf("Order() = %v, %v", r, err)
			}
			b.source.Set("late")
			time.Sleep(10 * time.Minute) // until the empty set is believed
			if got := len(b.nodes(t, "late")); got != 0 {
				t.Fatalf("%d nodes, want none", got)
			}
		}
	})
}

func TestInterceptorsAndPropagation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		var outer, inner int
		cfg := zerohop.Config{Hooks: zerohop.Hooks{
			AttemptStart: func(ctx context.Context, _ zerohop.CallInfo, a zerohop.AttemptInfo) context.Context {
				return context.WithValue(ctx, key{}, string(rune('0'+a.Number)))
			},
			Propagate: func(ctx context.Context, set func(key, value string)) { set("attempt", ctx.Value(key{}).(string)) },
		}}
		count := func(n *int) grpc.UnaryClientInterceptor {
			return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
				*n++
				return invoker(ctx, method, req, reply, cc, opts...)
			}
		}
		b := setUp(t, 3, cfg, grpc.WithUnaryInterceptor(count(&outer)), grpc.WithChainUnaryInterceptor(count(&inner)))
		b.warm(t)
		var got []string
		for _, s := range b.servers {
			s.do(func(ctx context.Context, _ string) error {
				md, _ := metadata.FromIncomingContext(ctx)
				got = append(got, md.Get("attempt")...)
				if len(got) < 3 {
					return errUnavailable
				}
				return nil
			})
		}
		outer, inner = 0, 0
		b.say(t)
		if outer != 1 || inner != 3 {
			t.Errorf("interceptors ran %d times outside and %d times inside, want 1 and 3", outer, inner)
		}
		if len(got) != 3 || got[0] != "0" || got[1] != "1" || got[2] != "2" {
			t.Errorf("the servers saw attempts %q, want each with its own metadata", got)
		}
	})
}

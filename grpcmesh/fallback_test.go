package grpcmesh

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/echopb"
)

// code makes unary calls fail.
func code(c codes.Code) *func(context.Context, string, echopb.Echo_ChatServer) error {
	f := func(context.Context, string, echopb.Echo_ChatServer) error { return status.Error(c, "on purpose") }
	return &f
}

func TestFallbackServiceAnswersForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		heard := ""
		var policy zerohop.Policy
		policy.Idempotent = zerohop.On
		policy.Retry = zerohop.Retry{Attempts: 2, Base: 1}
		policy.Fallback.Service = "replica"
		b := setUp(t, 1, zerohop.Config{
			Spec: zerohop.Spec{Services: map[string]zerohop.Policy{"orders": policy}},
			Hooks: zerohop.Hooks{FellBack: func(_ context.Context, call zerohop.CallInfo, by string, err error) {
				heard = call.Service + " to [" + by + "] " + status.Code(err).String()
			}},
		})
		replica := b.serve(t, "10.0.1.1:80")
		b.source.Set("replica", endpoints("10.0.1.1:80")...)
		time.Sleep(time.Minute) // the source is asked again by then
		for _, test := range []struct {
			name            string
			orders, replica codes.Code
			node            string
			code            codes.Code
			heard           string
		}{
			{"answer", codes.OK, codes.OK, "10.0.0.1:80", codes.OK, ""},
			{"failure", codes.Unavailable, codes.OK, "10.0.1.1:80", codes.OK, "orders to [replica] Unavailable"},
			{"answer that is an error", codes.NotFound, codes.OK, "", codes.NotFound, ""},
			{"error of the application", codes.Unavailable, codes.NotFound, "", codes.NotFound, "orders to [replica] Unavailable"},
			{"both fail", codes.Unavailable, codes.DataLoss, "", codes.Unavailable, ""},
		} {
			heard = ""
			b.servers[0].behave.Store(code(test.orders))
			replica.behave.Store(code(test.replica))
			var header metadata.MD
			r, err := b.client.Say(t.Context(), &echopb.SayRequest{Text: "hello"}, grpc.Header(&header))
			if status.Code(err) != test.code || r.GetNode() != test.node || heard != test.heard {
				t.Errorf("%s: Say() = %v, %v and hooks heard %q, want %q, %v and %q", test.name, r, err, heard, test.node, test.code, test.heard)
			}
		}
		b.idle(t)
	})
}

func TestFallbackGetsNoCredentials(t *testing.T) {
	for keep, want := range map[zerohop.Switch]string{zerohop.Inherit: "", zerohop.On: "secret"} {
		synctest.Test(t, func(t *testing.T) {
			var policy zerohop.Policy
			policy.Idempotent = zerohop.On
			policy.Retry = zerohop.Retry{Base: 1}
			policy.Fallback = zerohop.Substitute{Service: "replica", Credentials: keep}
			b := setUp(t, 1, zerohop.Config{Spec: zerohop.Spec{Services: map[string]zerohop.Policy{"orders": policy}}})
			replica := b.serve(t, "10.0.1.1:80")
			b.source.Set("replica", endpoints("10.0.1.1:80")...)
			b.say(t)
			time.Sleep(time.Minute) // the source is asked again by then, and both are connected
			b.servers[0].behave.Store(code(codes.Unavailable))
			var got metadata.MD
			look := func(ctx context.Context, _ string, _ echopb.Echo_ChatServer) error {
				got, _ = metadata.FromIncomingContext(ctx)
				return nil
			}
			replica.behave.Store(&look)
			ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "secret", "x-tenant", "blue")
			if _, err := b.client.Say(ctx, &echopb.SayRequest{}); err != nil {
				t.Fatal(err)
			}
			first := func(key string) string { return append(got[key], "")[0] }
			if first("authorization") != want || first("x-tenant") != "blue" {
				t.Errorf("the other service got %v, want authorization %q and x-tenant", got, want)
			}
		})
	}
}

func TestClientFallbackMakesReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 1, zerohop.Config{Spec: zerohop.Spec{Defaults: zerohop.Policy{Retry: zerohop.Retry{Mode: zerohop.Off}}}})
		var refuse error
		made := 0
		c := Client{Mesh: b.mesh, Fallback: func(_ context.Context, method string, req, reply any, err error) error {
			if method != echopb.Echo_Say_FullMethodName || status.Code(err) != codes.Unavailable {
				t.Errorf("fallback got %q and %v, want a failure", method, err)
			}
			made++
			reply.(*echopb.SayReply).Text = "stale " + req.(*echopb.SayRequest).Text
			return refuse
		}}
		client := echopb.NewEchoClient(b.dialTo(t, Target("orders"), c.DialOptions()...))
		if r, err := client.Say(t.Context(), &echopb.SayRequest{Text: "tea"}); err != nil || r.Text != "tea" || made != 0 {
			t.Errorf("Say() = %v, %v, want the answer of the service", r, err)
		}
		b.servers[0].behave.Store(code(codes.Unavailable))
		if r, err := client.Say(t.Context(), &echopb.SayRequest{Text: "tea"}); err != nil || r.Text != "stale tea" {
			t.Errorf("Say() = %v, %v, want what the function made", r, err)
		}
		refuse = errors.New("nothing at hand")
		if _, err := client.Say(t.Context(), &echopb.SayRequest{}); status.Code(err) != codes.Unavailable || made != 2 {
			t.Errorf("Say() = %v, want the failure of the service", err)
		}
		wait := func(ctx context.Context, _ string, _ echopb.Echo_ChatServer) error { return hang(ctx, "") }
		b.servers[0].behave.Store(&wait)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := client.Say(ctx, &echopb.SayRequest{}); status.Code(err) != codes.DeadlineExceeded || made != 2 {
			t.Errorf("Say() = %v with %d replies made, want the deadline of a caller who has gone", err, made)
		}
		b.idle(t)
	})
}

// TestFallbackOnTCP has a service that nobody can reach, and one that answers for it.
func TestFallbackOnTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{name: "replica"}
	s.start(l)
	defer s.stop()
	mesh, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"orders": endpoints("127.0.0.1:1"), "replica": endpoints(l.Addr().String())},
		Spec:     zerohop.Spec{Defaults: zerohop.Policy{Fallback: zerohop.Substitute{Service: "replica"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer mesh.Close()
	conn, err := grpc.NewClient(Target("orders"), append(DialOptions(mesh), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r, err := echopb.NewEchoClient(conn).Say(t.Context(), &echopb.SayRequest{Text: "hello"})
	if err != nil || r.Node != "replica" {
		t.Errorf("Say() = %v, %v, want the answer of the other service", r, err)
	}
}

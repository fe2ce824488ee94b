package grpcmesh

import (
	"context"
	"fmt"
	"net"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
)

func TestKeysAreFoundInMetadata(t *testing.T) {
	ctx := metadata.NewOutgoingContext(t.Context(), metadata.MD{"x-user": {"ann"}, "X-Two": {"a"}})
	ctx = metadata.AppendToOutgoingContext(ctx, "x-two", "b", "x-bytes-bin", "\x00\xff")
	from := func(a net.Addr) context.Context { return peer.NewContext(ctx, &peer.Peer{Addr: a}) }
	for _, c := range []struct {
		ctx    context.Context
		source zerohop.HashSource
		want   string
	}{
		{ctx, zerohop.HashSource{Header: "X-User"}, "ann"},
		{ctx, zerohop.HashSource{Header: "x-two"}, "a,b"},
		{ctx, zerohop.HashSource{Header: "x-bytes-bin"}, "\x00\xff"},
		{ctx, zerohop.HashSource{Header: "x-none"}, ""},
		{t.Context(), zerohop.HashSource{Header: "x-user"}, ""},
		{ctx, zerohop.HashSource{Path: true}, "/shop.Orders/Get"},
		{ctx, zerohop.HashSource{Cookie: "c"}, ""},
		{ctx, zerohop.HashSource{Query: "q"}, ""},
		{ctx, zerohop.HashSource{Client: true}, ""},
		{from(nil), zerohop.HashSource{Client: true}, ""},
		{from(&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 4711}), zerohop.HashSource{Client: true}, "10.0.0.1"},
		{from(&net.UnixAddr{Name: "@"}), zerohop.HashSource{Client: true}, "@"},
	} {
		if got := (&keys{c.ctx, "/shop.Orders/Get"}).Key(&c.source); got != c.want {
			t.Errorf("key of %+v = %q, want %q", c.source, got, c.want)
		}
	}
}

// What balances alone, without interceptors, looks at keys, too.
func TestRPCsWithoutInterceptorsHaveKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 4, zerohop.Config{Spec: zerohop.Spec{Services: map[string]zerohop.Policy{
			"orders": {Balance: "ring-hash", Hash: []zerohop.HashSource{{Header: "x-user"}}},
		}}})
		conn := b.dialTo(t, Target("orders"), grpc.WithResolvers(Resolver(b.mesh)))
		client := echopb.NewEchoClient(conn)
		conn.Connect()
		synctest.Wait()
		homes := map[string]bool{}
		for k := range 20 {
			user := fmt.Sprint("user-", k)
			first := ""
			for i, ctx := range []context.Context{
				metadata.AppendToOutgoingContext(t.Context(), "x-user", user),
				metadata.AppendToOutgoingContext(t.Context(), "x-user", user),
				zerohop.WithCall(t.Context(), zerohop.CallOptions{HashKey: user}),
			} {
				reply, err := client.Say(ctx, &echopb.SayRequest{})
				if err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					first = reply.GetNode()
				}
				if reply.GetNode() != first {
					t.Errorf("RPCs for %s were answered by %s and %s", user, first, reply.GetNode())
				}
			}
			homes[first] = true
		}
		if len(homes) == 1 {
			t.Error("RPCs for all users were answered by the same endpoint")
		}
	})
}

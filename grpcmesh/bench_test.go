package grpcmesh

import (
	"context"
	"fmt"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/test/bufconn"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/echopb"
)

// BenchmarkUnary compares a call over three connections in memory with gRPC's own round_robin and on a mesh.
func BenchmarkUnary(b *testing.B) {
	listeners := map[string]*bufconn.Listener{}
	var addrs []resolver.Address
	for i := range 3 {
		addr := fmt.Sprintf("10.0.0.%d:80", i+1)
		l := bufconn.Listen(64 << 10)
		listeners[addr] = l
		addrs = append(addrs, resolver.Address{Addr: addr})
		s := &server{name: addr}
		s.start(l)
		b.Cleanup(s.stop)
	}
	dial := grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return listeners[addr].DialContext(ctx) })
	creds := grpc.WithTransportCredentials(insecure.NewCredentials())

	var eps []discovery.Endpoint
	for _, a := range addrs {
		eps = append(eps, discovery.Endpoint{Addr: a.Addr})
	}
	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{"orders": eps}})
	if err != nil {
		b.Fatal(err)
	}
	defer mesh.Close()
	fixed := manual.NewBuilderWithScheme("fixed")
	fixed.InitialState(resolver.State{Addresses: addrs})

	for _, bm := range []struct {
		name, target string
		opts         []grpc.DialOption
	}{
		{"round_robin", "fixed:///orders", []grpc.DialOption{
			grpc.WithResolvers(fixed), grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
		}},
		{"zerohop", Target("orders"), DialOptions(mesh)},
	} {
		conn, err := grpc.NewClient(bm.target, append(bm.opts, dial, creds)...)
		if err != nil {
			b.Fatal(err)
		}
		client, req := echopb.NewEchoClient(conn), &echopb.SayRequest{Text: "hello"}
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := client.Say(b.Context(), req, grpc.WaitForReady(true)); err != nil {
					b.Fatal(err)
				}
			}
		})
		conn.Close()
	}
}

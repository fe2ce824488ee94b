package grpcmesh_test

import (
	"context"
	"fmt"
	"log"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/internal/echopb"
)

func ExampleTarget() {
	fmt.Println(grpcmesh.Target("orders"))
	// Output: zerohop:///orders
}

// echo answers with what it was told.
type echo struct {
	echopb.UnimplementedEchoServer
}

func (echo) Say(_ context.Context, r *echopb.SayRequest) (*echopb.SayReply, error) {
	return &echopb.SayReply{Text: r.Text}, nil
}

// serve starts an instance of the echo service.
func serve() (addr string, stop func()) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	echopb.RegisterEchoServer(server, echo{})
	go server.Serve(listener) // ends with Stop
	return listener.Addr().String(), server.Stop
}

// say makes a call and prints its answer.
func say(conn *grpc.ClientConn) {
	reply, err := echopb.NewEchoClient(conn).Say(context.Background(), &echopb.SayRequest{Text: "hello"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(reply.Text)
}

func ExampleDialOptions() {
	addr, stop := serve()
	defer stop()
	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{"orders": {{Addr: addr}}}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()

	conn, err := grpc.NewClient(grpcmesh.Target("orders"),
		append(grpcmesh.DialOptions(mesh), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	say(conn)
	// Output: hello
}

// The endpoints and the balancing of the mesh, without its retries.
func ExampleResolver() {
	addr, stop := serve()
	defer stop()
	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{"orders": {{Addr: addr}}}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()

	conn, err := grpc.NewClient(grpcmesh.Target("orders"), grpc.WithResolvers(grpcmesh.Resolver(mesh)),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	say(conn)
	// Output: hello
}

// The retries, backups and timeouts of the mesh, on a connection that gRPC finds and balances the endpoints of.
func ExampleUnaryInterceptor() {
	addr, stop := serve()
	defer stop()
	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()

	conn, err := grpc.NewClient("dns:///"+addr, // "dns:///orders.example.com", for example
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`),
		grpc.WithDisableRetry(), // or retries multiply
		grpc.WithChainUnaryInterceptor(grpcmesh.UnaryInterceptor(mesh, "orders")),
		grpc.WithChainStreamInterceptor(grpcmesh.StreamInterceptor(mesh, "orders")),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	say(conn)
	// Output: hello
}

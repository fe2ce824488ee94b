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

func ExampleDialOptions() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	echopb.RegisterEchoServer(server, echo{})
	go server.Serve(listener) // ends with Stop
	defer server.Stop()

	mesh, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"orders": {{Addr: listener.Addr().String()}}},
	})
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
	reply, err := echopb.NewEchoClient(conn).Say(context.Background(), &echopb.SayRequest{Text: "hello"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(reply.Text)
	// Output: hello
}

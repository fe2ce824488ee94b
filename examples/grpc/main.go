// Command grpc shows a gRPC client that calls a service by its name, over a plain *grpc.ClientConn with generated
// code. It starts two instances of the service itself, and halfway stops the one that answered last:
//
//	go run ./examples/grpc
//
// It prints who answered. Which of the two answers the first calls differs from run to run:
//
//	hello from a
//	hello from a
//	hello from a
//	a stops
//	hello from b
//	hello from b
//	hello from b
package main

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

func main() {
	a, stopA := serve("a")
	b, stopB := serve("b")
	stop := map[string]func(){"a": stopA, "b": stopB}

	// In earnest the instances are found by package discovery/consul or the like.
	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{"greeter": {{Addr: a}, {Addr: b}}}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()
	conn, err := grpc.NewClient(grpcmesh.Target("greeter"),
		append(grpcmesh.DialOptions(mesh), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	client := echopb.NewEchoClient(conn)

	name := call(client)
	fmt.Println(name, "stops")
	stop[name]()
	call(client)
}

// call greets three times and returns who answered last.
func call(client echopb.EchoClient) (name string) {
	for range 3 {
		reply, err := client.Say(context.Background(), &echopb.SayRequest{Text: "hello"})
		if err != nil {
			log.Fatal(err)
		}
		name = reply.GetNode()
		fmt.Println(reply.GetText(), "from", name)
	}
	return name
}

// greeter is an instance of the service.
type greeter struct {
	echopb.UnimplementedEchoServer
	name string
}

func (g *greeter) Say(_ context.Context, req *echopb.SayRequest) (*echopb.SayReply, error) {
	return &echopb.SayReply{Text: req.GetText(), Node: g.name}, nil
}

// serve starts an instance and returns its address.
func serve(name string) (addr string, stop func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	s := grpc.NewServer()
	echopb.RegisterEchoServer(s, &greeter{name: name})
	go func() {
		if err := s.Serve(l); err != nil {
			log.Fatal(err)
		}
	}()
	return l.Addr().String(), s.Stop
}

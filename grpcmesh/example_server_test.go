package grpcmesh_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/internal/echopb"
)

// A server that refuses what it cannot do in time, reports its load, and is stopped without failing a call.
func ExampleServer() {
	half := &grpcmesh.Server{
		MinTime: 5 * time.Second,
		Load:    func() grpcmesh.LoadReport { return grpcmesh.LoadReport{CPU: 0.42} },
		Health:  health.NewServer(),
		Lag:     10 * time.Millisecond, // 1 s, the default, suits real clients better
	}
	server := grpc.NewServer(half.ServerOptions()...)
	echopb.RegisterEchoServer(server, echo{})
	healthpb.RegisterHealthServer(server, half.Health)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	stopped := make(chan error)
	go func() { stopped <- server.Serve(listener) }()

	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	client := echopb.NewEchoClient(conn)
	say := func(timeout time.Duration) {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		var trailer metadata.MD
		reply, err := client.Say(ctx, &echopb.SayRequest{Text: "hello"}, grpc.WaitForReady(true), grpc.Trailer(&trailer))
		fmt.Printf("%q %v, load reports: %d\n", reply.GetText(), status.Code(err), len(trailer["endpoint-load-metrics-bin"]))
	}
	say(time.Minute)
	say(4 * time.Second) // less than a call needs

	// At the end. Close of a discovery.Registration is a function like deregister.
	deregister := func(context.Context) error {
		fmt.Println("out of the registry")
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	fmt.Println("drained:", half.Drain(ctx, server, deregister), <-stopped)

	// Output:
	// "hello" OK, load reports: 1
	// "" DeadlineExceeded, load reports: 1
	// out of the registry
	// drained: <nil> <nil>
}

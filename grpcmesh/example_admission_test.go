package grpcmesh_test

import (
	"context"
	"fmt"
	"log"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/resilience"
)

// A server that does not begin more than it can finish. Mode is usually left out at first, and Refused watched for a while.
func ExampleServer_admission() {
	admission, err := zerohop.NewAdmission(zerohop.AdmissionConfig{
		Policy: zerohop.AdmissionPolicy{Mode: zerohop.On, Algorithm: "fixed", Max: 1, Queue: -1}, // for the example: Mode is enough
		Refused: func(_ context.Context, r zerohop.AdmissionRefusal) {
			fmt.Println(r.Arrival.Operation, r.Err.Admission)
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	half := &grpcmesh.Server{Admission: admission}
	server := grpc.NewServer(half.ServerOptions()...)
	echopb.RegisterEchoServer(server, echo{})
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
	say := func() {
		_, err := echopb.NewEchoClient(conn).Say(context.Background(), &echopb.SayRequest{Text: "hello"})
		fmt.Println(status.Code(err))
	}
	say()

	// Anything else that the process does may share the limit.
	var batch zerohop.Visit
	if err := admission.Admit(context.Background(), &batch); err != nil {
		log.Fatal(err)
	}
	say()
	batch.Leave(resilience.Success)
	server.Stop()
	<-stopped

	// Output:
	// OK
	// /zerohop.echo.v1.Echo/Say no place left
	// ResourceExhausted
}

package ebpfaccel_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net/http"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/ebpfaccel"
	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/httpmesh"
)

// A service listens and a caller dials with package ebpfaccel. It is the same to both whether there is an accelerator.
func ExampleDialContext() {
	quiet := &ebpfaccel.ListenConfig{Logger: slog.New(slog.DiscardHandler)} // that nothing is accelerated here
	l, err := quiet.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "in stock") })}
	go server.Serve(l)
	defer server.Close()

	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{"stock": {{Addr: l.Addr().String()}}}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()
	transport := httpmesh.NewTransport(mesh, &http.Transport{DialContext: ebpfaccel.DialContext})
	defer transport.CloseIdleConnections()

	resp, err := (&http.Client{Transport: transport}).Get("http://stock/")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
	// Output: 200 OK
}

// Over gRPC it is a field, too.
func ExampleDialContext_grpc() {
	quiet := &ebpfaccel.ListenConfig{Logger: slog.New(slog.DiscardHandler)}
	l, err := quiet.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	healthgrpc.RegisterHealthServer(server, health.NewServer())
	go server.Serve(l)
	defer server.Stop()

	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{"stock": {{Addr: l.Addr().String()}}}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()
	options := grpcmesh.Client{Mesh: mesh, DialContext: ebpfaccel.DialContext}.DialOptions()
	conn, err := grpc.NewClient(grpcmesh.Target("stock"), append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	resp, err := healthgrpc.NewHealthClient(conn).Check(context.Background(), &healthgrpc.HealthCheckRequest{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(resp.Status)
	// Output: SERVING
}

package lifecycle_test

import (
	"context"
	"log"
	"net"
	"net/http"

	"google.golang.org/grpc"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/lifecycle"
)

// One process serves HTTP and gRPC, as two services of one registry. It ends by SIGTERM without failing a call.
func ExampleRun() {
	var registrar discovery.Registrar // for example consul.Registrar{Client: client}
	listen := func(addr string) net.Listener {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			log.Fatal(err)
		}
		return l
	}
	front := httpmesh.NewHandler(http.DefaultServeMux, httpmesh.HandlerOptions{})
	half := new(grpcmesh.Server)
	rpc := grpc.NewServer(half.ServerOptions()...)

	err := lifecycle.Run(context.Background(), lifecycle.Config{
		Registrar: registrar,
		Servers: []lifecycle.Server{
			front.Serving(&http.Server{Handler: front}, listen(":8080"), discovery.Instance{Service: "orders"}),
			half.Serving(rpc, listen(":9090"), discovery.Instance{Service: "orders-grpc"}),
		},
	})
	if err != nil {
		log.Fatal(err)
	}
}

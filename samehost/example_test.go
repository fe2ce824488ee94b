package samehost_test

import (
	"context"
	"log"
	"net"
	"net/http"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/lifecycle"
	"github.com/zerohop/zerohop/samehost"
)

// A server listens on TCP and, for callers on the same host, on a Unix socket. What it registers says where that is.
func ExampleListen() {
	var registrar discovery.Registrar // for example consul.Registrar{Client: client}
	tcp, err := net.Listen("tcp", ":8080")
	if err != nil {
		log.Fatal(err)
	}
	l, err := samehost.Listen(tcp, samehost.ListenConfig{Directory: "/run/shop"})
	if err != nil {
		log.Fatal(err)
	}
	h := httpmesh.NewHandler(http.DefaultServeMux, httpmesh.HandlerOptions{})
	err = lifecycle.Run(context.Background(), lifecycle.Config{
		Registrar: registrar,
		Servers:   []lifecycle.Server{h.Serving(&http.Server{Handler: h}, l, discovery.Instance{Service: "orders"})},
	})
	if err != nil {
		log.Fatal(err)
	}
}

package etcd_test

import (
	"context"
	"fmt"
	"log"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/etcd"
)

func ExampleResolver() {
	client, err := etcd.NewClient(clientv3.Config{Endpoints: []string{"10.0.0.1:2379", "10.0.0.2:2379", "10.0.0.3:2379"}})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	// The services that go-zero, Kitex or etcd's gRPC naming have registered, and our own. Those of Kratos are
	// below KratosPrefix, and each has URLs of HTTP and gRPC.
	resolver := etcd.Resolver{Client: client, Prefix: etcd.KratosPrefix, Scheme: "http"}
	err = discovery.Run(context.Background(), resolver, "orders", discovery.RunOptions{}, func(set []discovery.Endpoint) {
		for _, ep := range set {
			fmt.Printf("%s weight %d zone %q\n", ep.Addr, ep.Weight, ep.Zone)
		}
	})
	log.Print(err)
}

func ExampleRegistrar() {
	client, err := etcd.NewClient(clientv3.Config{Endpoints: []string{"10.0.0.1:2379"}})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	registrar := etcd.Registrar{Client: client, OnError: func(err error) { log.Print(err) }}
	registration, err := registrar.Register(context.Background(), discovery.Instance{
		Service:  "orders",
		Endpoint: discovery.Endpoint{Addr: "192.0.2.1:8080", Zone: "eu-1"},
	})
	if err != nil {
		log.Fatal(err)
	}
	// ... serve, and take the instance out before the server stops:
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := registration.Close(ctx); err != nil {
		log.Print(err)
	}
}

func ExampleRegistrar_goZero() {
	client, err := etcd.NewClient(clientv3.Config{Endpoints: []string{"10.0.0.1:2379"}})
	if err != nil {
		log.Fatal(err)
	}
	// Clients of go-zero read the plain address.
	registrar := etcd.Registrar{Client: client, Encode: func(inst discovery.Instance) ([]byte, error) {
		return []byte(inst.Endpoint.Addr), nil
	}}
	_, err = registrar.Register(context.Background(), discovery.Instance{
		Service: "user.rpc", Endpoint: discovery.Endpoint{Addr: "192.0.2.1:8080"},
	})
	log.Print(err)
}

package etcd_test

import (
	"context"
	"log"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/config"
	"github.com/zerohop/zerohop/config/etcd"
	discoveryetcd "github.com/zerohop/zerohop/discovery/etcd"
)

// The mesh starts with what the key says, and follows it from then on. The client is that of discovery.
func ExampleSource() {
	client, err := discoveryetcd.NewClient(clientv3.Config{Endpoints: []string{"127.0.0.1:2379"}})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	source := etcd.Source{Client: client, Key: "/mesh/orders.yaml"}
	ctx := context.Background()
	spec, err := config.Load(ctx, source, config.RunOptions{})
	if err != nil {
		log.Fatal(err)
	}
	mesh, err := zerohop.New(zerohop.Config{Spec: spec, Resolver: discoveryetcd.Resolver{Client: client}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()
	go config.Run(ctx, mesh, source, config.RunOptions{Observe: func(e config.Event) { log.Print(e.Kind, " ", e.Err) }})
	// ... make calls
}

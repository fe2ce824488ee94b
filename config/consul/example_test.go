package consul_test

import (
	"context"
	"log"

	"github.com/hashicorp/consul/api"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/config"
	"github.com/zerohop/zerohop/config/consul"
	discoveryconsul "github.com/zerohop/zerohop/discovery/consul"
)

// The mesh starts with what the key says, and follows it from then on. The client is that of discovery.
func ExampleSource() {
	client, err := discoveryconsul.NewClient(api.Config{Address: "127.0.0.1:8500"})
	if err != nil {
		log.Fatal(err)
	}
	source := consul.Source{Client: client, Key: "mesh/orders.yaml", TokenFile: "/etc/orders/consul-token"}
	ctx := context.Background()
	spec, err := config.Load(ctx, source, config.RunOptions{})
	if err != nil {
		log.Fatal(err)
	}
	mesh, err := zerohop.New(zerohop.Config{Spec: spec, Resolver: discoveryconsul.Resolver{Client: client}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()
	go config.Run(ctx, mesh, source, config.RunOptions{Observe: func(e config.Event) { log.Print(e.Kind, " ", e.Err) }})
	// ... make calls
}

package kubernetes_test

import (
	"context"
	"log"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/config"
	"github.com/zerohop/zerohop/config/kubernetes"
	discoverykubernetes "github.com/zerohop/zerohop/discovery/kubernetes"
)

// The mesh starts with what the ConfigMap says, and follows it from then on. The client is that of discovery.
func ExampleSource() {
	client, err := discoverykubernetes.NewClient(discoverykubernetes.ClientConfig{}) // in a pod: its service account
	if err != nil {
		log.Fatal(err)
	}
	source := kubernetes.Source{Client: client, Name: "mesh", Key: "mesh.yaml"}
	ctx := context.Background()
	spec, err := config.Load(ctx, source, config.RunOptions{})
	if err != nil {
		log.Fatal(err)
	}
	mesh, err := zerohop.New(zerohop.Config{Spec: spec, Resolver: discoverykubernetes.Resolver{Client: client}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()
	go config.Run(ctx, mesh, source, config.RunOptions{Observe: func(e config.Event) { log.Print(e.Kind, " ", e.Err) }})
	// ... make calls
}

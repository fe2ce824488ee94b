package config_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/config"
	"github.com/zerohop/zerohop/config/file"
	"github.com/zerohop/zerohop/discovery"
)

func ExampleParse() {
	document := `
defaults:
  timeout: 2
services:
  orders:
    retry: {atempts: 2}
routes:
- prefix: /v2
`
	_, err := config.Parse([]byte(document), config.ParseOptions{Name: "mesh.yaml"})
	fmt.Println(err)
	// Output:
	// mesh.yaml:3:12: defaults.timeout: is 2, want a duration with its unit, such as 2ms or 2s
	// mesh.yaml:6:13: services.orders.retry.atempts: unknown field, did you mean "attempts"?
	// mesh.yaml:8:3: routes[0].prefix: unknown field, did you mean "routes[0].match.path.prefix"?
}

func ExampleMarshal() {
	text, err := config.Marshal(zerohop.Spec{Services: map[string]zerohop.Policy{
		"orders": {Timeout: 2 * time.Second, Retry: zerohop.Retry{Attempts: 2}},
	}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(text))
	// Output:
	// services:
	//   orders:
	//     timeout: 2s
	//     retry:
	//       attempts: 2
}

func ExampleRun() {
	ctx := context.Background()
	src := file.Source{Path: "/etc/mesh/mesh.yaml"} // or one of config/consul, config/etcd, config/kubernetes
	opts := config.RunOptions{
		Parse:   config.ParseOptions{Name: src.Path, Expand: os.LookupEnv},
		Observe: func(e config.Event) { log.Print(e.Kind, " ", e.Err) },
	}
	start, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	spec, err := config.Load(start, src, opts)
	if err != nil {
		log.Fatal(err)
	}
	mesh, err := zerohop.New(zerohop.Config{Spec: spec, Resolver: discovery.Static{}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()
	ctx, stop := context.WithCancel(ctx)
	done := make(chan error)
	go func() { done <- config.Run(ctx, mesh, src, opts) }()
	defer func() { stop(); <-done }() // before the mesh is closed
}

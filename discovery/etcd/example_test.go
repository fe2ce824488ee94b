package etcd_test

import (
	"context"
	"fmt"
	"log"

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

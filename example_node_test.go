package zerohop_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
)

// Calls of a protocol of one's own go to a given endpoint, or to those with some metadata.
func ExampleCallOptions() {
	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{"ledger": {
		{Addr: "10.0.0.1:80", Meta: map[string]string{"shard": "1"}},
		{Addr: "10.0.0.2:80", Meta: map[string]string{"shard": "2"}},
	}}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()
	call := func(o zerohop.CallOptions) (string, error) {
		return zerohop.Do(zerohop.WithCall(context.Background(), o), mesh, "ledger",
			func(_ context.Context, node *loadbalance.Node) (string, error) { return node.Addr(), nil })
	}

	fmt.Println(call(zerohop.CallOptions{Node: "10.0.0.1:80"}))
	fmt.Println(call(zerohop.CallOptions{Select: map[string]string{"shard": "2"}}))
	_, err = call(zerohop.CallOptions{Node: "10.0.0.3:80", Strict: zerohop.On})
	fmt.Println(errors.Is(err, loadbalance.ErrNoNode))
	_, err = call(zerohop.CallOptions{Select: map[string]string{"shard": "3"}})
	fmt.Println(errors.Is(err, loadbalance.ErrNoMatch))
	// Output:
	// 10.0.0.1:80 <nil>
	// 10.0.0.2:80 <nil>
	// true
	// true
}

package discovery_test

import (
	"context"
	"fmt"

	"github.com/zerohop/zerohop/discovery"
)

func ExampleRun() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	resolver := discovery.Static{"orders": {
		{Addr: "10.0.0.2:8080", Weight: 5},
		{Addr: "10.0.0.1:8080"},
		{Addr: "10.0.0.1"}, // without a port: dropped
	}}
	options := discovery.RunOptions{Observe: func(e discovery.Event) {
		if e.Err != nil {
			fmt.Println(e.Kind, e.Err)
		}
	}}
	err := discovery.Run(ctx, resolver, "orders", options, func(set []discovery.Endpoint) {
		for _, e := range set {
			fmt.Println(e.Addr, e.Weight)
		}
		cancel()
	})
	fmt.Println(err)
	// Output:
	// endpoints dropped discovery: address "10.0.0.1": not "host:port"
	// 10.0.0.1:8080 1
	// 10.0.0.2:8080 5
	// context canceled
}

func ExampleAdvertise() {
	addr, err := discovery.Advertise("[::]:8080", discovery.Advertising{Addr: "10.1.2.3"})
	fmt.Println(addr, err)
	_, err = discovery.Advertise("127.0.0.1:8080", discovery.Advertising{})
	fmt.Println(err)
	// Output:
	// 10.1.2.3:8080 <nil>
	// discovery: address of the listener: only this host reaches 127.0.0.1:8080: set Advertising.AllowLoopback if all callers are on it
}

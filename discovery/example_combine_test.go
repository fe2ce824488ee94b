package discovery_test

import (
	"context"
	"fmt"
	"time"

	"github.com/zerohop/zerohop/discovery"
)

// show prints the first set.
func show(r discovery.Resolver) {
	ctx, cancel := context.WithCancel(context.Background())
	_ = discovery.Run(ctx, r, "orders", discovery.RunOptions{}, func(set []discovery.Endpoint) {
		for _, e := range set {
			fmt.Println(e.Addr, "priority", e.Priority)
		}
		cancel()
	})
}

var (
	here  = discovery.Static{"orders": {{Addr: "10.0.0.1:80"}, {Addr: "10.0.0.2:80", Meta: map[string]string{"version": "2"}}}}
	there = discovery.Static{"orders": {{Addr: "10.0.0.2:80"}, {Addr: "10.1.0.1:80"}}}
)

func ExampleMerge() {
	show(discovery.Merge{here, there})
	// Output:
	// 10.0.0.1:80 priority 0
	// 10.0.0.2:80 priority 0
	// 10.1.0.1:80 priority 0
}

func ExampleFailover() {
	show(discovery.Failover{here, there})
	// Output:
	// 10.0.0.1:80 priority 0
	// 10.0.0.2:80 priority 0
	// 10.1.0.1:80 priority 1
}

func ExampleFallback() {
	show(discovery.Fallback{Primary: discovery.Static{}, Secondary: there, After: time.Minute})
	// Output:
	// 10.0.0.2:80 priority 0
	// 10.1.0.1:80 priority 0
}

func ExampleFilter() {
	show(discovery.Filter{Resolver: here, Meta: map[string]string{"version": "2"}})
	// Output:
	// 10.0.0.2:80 priority 0
}

func ExampleSubset() {
	show(discovery.Subset{Resolver: there, Size: 1, Instance: "web-1"})
	// Output:
	// 10.1.0.1:80 priority 0
}

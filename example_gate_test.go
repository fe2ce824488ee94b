package zerohop_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// A quota of ten calls a second is kept by the client: what is more is told when to come again. With a MaxWait it would wait.
func ExampleRateLimit() {
	mesh, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"geocoder": {{Addr: "10.0.0.1:7000"}}},
		Spec: zerohop.Spec{Services: map[string]zerohop.Policy{"geocoder": {
			RateLimit: zerohop.RateLimit{Mode: zerohop.On, Rate: 10, Burst: 2},
		}}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()
	for range 3 {
		_, err := zerohop.Do(context.Background(), mesh, "geocoder", func(context.Context, *loadbalance.Node) (string, error) {
			return "52.5 N 13.4 E", nil
		})
		var refused *zerohop.Error
		if errors.As(err, &refused) && refused.Reason == zerohop.RateLimited {
			fmt.Println("refused, again within 100ms:", refused.After <= 100*time.Millisecond)
			continue
		}
		fmt.Println("found")
	}
	// Output:
	// found
	// found
	// refused, again within 100ms: true
}

// Somebody who knows better than any statistics stops all calls of a service, and lets them go on.
func ExampleMesh_ForceBreaker() {
	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{"orders": {{Addr: "10.0.0.1:7000"}}}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()
	for _, state := range []resilience.BreakerState{resilience.BreakerForcedOpen, resilience.BreakerClosed} {
		if err := mesh.ForceBreaker("orders", state); err != nil {
			log.Fatal(err)
		}
		v, err := zerohop.Do(context.Background(), mesh, "orders", func(context.Context, *loadbalance.Node) (int, error) { return 42, nil })
		fmt.Println(v, err)
	}
	// Output:
	// 0 zerohop: orders: breaker open: resilience: circuit breaker is open
	// 42 <nil>
}

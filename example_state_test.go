package zerohop_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
)

// Telemetry, a log and a page each have hooks of their own.
func ExampleJoinHooks() {
	count := 0
	counter := zerohop.Hooks{CallDone: func(context.Context, zerohop.CallInfo, zerohop.CallResult) { count++ }}
	printer := zerohop.Hooks{CallDone: func(_ context.Context, call zerohop.CallInfo, result zerohop.CallResult) {
		fmt.Println(call.Service, result.Outcome)
	}}
	mesh, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"orders": {{Addr: "10.0.0.1:7000"}}},
		Hooks:    zerohop.JoinHooks(counter, printer),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()
	_, _ = zerohop.Do(context.Background(), mesh, "orders", func(context.Context, *loadbalance.Node) (int, error) { return 42, nil })
	fmt.Println(count)
	// Output:
	// orders success
	// 1
}

// What a mesh knows can be printed, or written as JSON.
func ExampleMesh_State() {
	mesh, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"orders": {{Addr: "10.0.0.1:7000", Weight: 3}, {Addr: "10.0.0.2:7000"}}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()
	_, _ = zerohop.Do(context.Background(), mesh, "orders", func(context.Context, *loadbalance.Node) (int, error) { return 42, nil })
	for _, s := range mesh.State().Services {
		fmt.Printf("%s by %s, budget %.0f%%\n", s.Name, s.Balance, 100*s.Budget)
		for _, ep := range s.Endpoints {
			fmt.Printf("  %s %s, gets %.0f%%\n", ep.Addr, ep.Health, 100*ep.Share)
		}
	}
	// Output:
	// orders by peak-ewma, budget 100%
	//   10.0.0.1:7000 healthy, gets 75%
	//   10.0.0.2:7000 healthy, gets 25%
}

// An endpoint that makes trouble in ways that no statistics see is taken out by hand, for a while.
func ExampleMesh_Eject() {
	mesh, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"orders": {{Addr: "10.0.0.1:7000"}, {Addr: "10.0.0.2:7000"}}},
		Hooks: zerohop.Hooks{State: func(service string, ev zerohop.StateEvent) {
			fmt.Printf("%s of %s: %s by %s, because: %s\n", ev.Addr, service, ev.Cause, ev.By, ev.Why)
		}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()
	call := func() (string, error) {
		return zerohop.Do(context.Background(), mesh, "orders", func(_ context.Context, n *loadbalance.Node) (string, error) { return n.Addr(), nil })
	}
	_, _ = call() // from now on the endpoints are known
	err = mesh.Eject(zerohop.Operation{
		Service: "orders", Addr: "10.0.0.1:7000", For: 10 * time.Minute, By: "kim", Why: "wrong prices",
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(call())
	// Unordered output:
	// 10.0.0.1:7000 of orders: eject by kim, because: wrong prices
	// 10.0.0.2:7000 <nil>
}

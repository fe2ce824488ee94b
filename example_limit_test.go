package zerohop_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// At most one call of the ledger is in flight. The one that comes meanwhile is refused at once; with Queue set it would wait.
func ExampleLimit() {
	mesh, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"ledger": {{Addr: "192.0.2.1:7000"}}},
		Spec:     zerohop.Spec{Services: map[string]zerohop.Policy{"ledger": {Limit: zerohop.Limit{Mode: zerohop.On, Max: 1}}}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer mesh.Close()
	call := func(f func()) error {
		_, err := zerohop.Do(context.Background(), mesh, "ledger", func(context.Context, *loadbalance.Node) (int, error) {
			f()
			return 0, nil
		})
		return err
	}
	err = call(func() {
		err := call(func() { fmt.Println("not reached") })
		fmt.Println(err)
		fmt.Println(errors.Is(err, resilience.ErrLimited))
	})
	fmt.Println(err)
	// Output:
	// zerohop: ledger: limited: resilience: too much in flight: no place left
	// true
	// <nil>
}

package zerohop_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
)

// Would it do to attempt each call once? One of two endpoints is down, and every call that meets it is saved by a second attempt.
func ExampleMesh_Shadow() {
	mesh, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"ledger": {{Addr: "10.0.0.1:80"}, {Addr: "10.0.0.2:80"}}},
		Spec:     zerohop.Spec{Defaults: zerohop.Policy{Idempotent: zerohop.On, Balance: "weighted-round-robin"}},
	})
	if err != nil {
		panic(err)
	}
	defer mesh.Close()

	shadow, err := mesh.Shadow(zerohop.Spec{Defaults: zerohop.Policy{Retry: zerohop.Retry{Mode: zerohop.Off}}})
	if err != nil {
		panic(err)
	}
	defer shadow.Stop()

	failed := 0
	for range 10 {
		_, err := zerohop.Do(context.Background(), mesh, "ledger", func(_ context.Context, node *loadbalance.Node) (string, error) {
			if node.Addr() == "10.0.0.2:80" {
				return "", errors.New("disk full")
			}
			return "posted", nil
		})
		if err != nil {
			failed++
		}
	}
	ledger := shadow.Report().Services[0]
	fmt.Println("failed:", failed)
	fmt.Println("would have failed besides:", ledger.Lost > 0 && ledger.Lost == ledger.LostToRetry)
	// Output:
	// failed: 0
	// would have failed besides: true
}

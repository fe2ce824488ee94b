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
)

// Reads go to a replica when the service has failed, and to what was read last if that fails, too.
func ExampleDoOr() {
	mesh, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"stock": {{Addr: "10.0.0.1:80"}}, "stock-replica": {{Addr: "10.0.0.2:80"}}},
		Spec: zerohop.Spec{Services: map[string]zerohop.Policy{"stock": {
			Idempotent: zerohop.On,
			Retry:      zerohop.Retry{Attempts: 2, Base: time.Millisecond},
			Fallback:   zerohop.Substitute{Service: "stock-replica"},
		}}},
		Hooks: zerohop.Hooks{FellBack: func(_ context.Context, call zerohop.CallInfo, by string, _ error) {
			fmt.Printf("%s fell back to %q\n", call.Service, by)
		}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()
	down := map[string]bool{"10.0.0.1:80": true}
	read := func(_ context.Context, node *loadbalance.Node) (int, error) {
		if down[node.Addr()] {
			return 0, errors.New("out of order")
		}
		return 17, nil
	}
	last := func(context.Context, error) (int, error) { return 16, nil }
	for range 2 {
		fmt.Println(zerohop.DoOr(context.Background(), mesh, "stock", read, last))
		down["10.0.0.2:80"] = true
	}
	// Output:
	// stock fell back to "stock-replica"
	// 17 <nil>
	// stock fell back to ""
	// 16 <nil>
}

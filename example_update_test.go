package zerohop_test

import (
	"fmt"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/routing"
)

// A tenth of the calls goes to the next version, without a restart; a mistake leaves things as they are.
func ExampleMesh_Update() {
	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{
		"orders": {{Addr: "10.0.0.1:80"}}, "orders-next": {{Addr: "10.0.0.2:80"}},
	}})
	if err != nil {
		panic(err)
	}
	defer mesh.Close()

	spec, _ := mesh.Spec()
	spec.Routes = []routing.Rule{{Name: "canary", Match: routing.Match{Service: "orders"}, Backends: []routing.Backend{
		{Service: "orders", Weight: 9}, {Service: "orders-next", Weight: 1},
	}}}
	change, err := mesh.Update(spec)
	if err != nil {
		panic(err)
	}
	for _, f := range change.Fields {
		fmt.Println(f)
	}

	spec.Routes[0].Policy = "gentle"
	_, err = mesh.Update(spec)
	fmt.Println(err)
	_, generation := mesh.Spec()
	fmt.Println("generation", generation)
	// Output:
	// routes.canary.backends[0].service: set to orders
	// routes.canary.backends[0].weight: set to 9
	// routes.canary.backends[1].service: set to orders-next
	// routes.canary.backends[1].weight: set to 1
	// routes.canary.match.service: set to orders
	// zerohop: invalid spec: routes[0].policy: there is no policy "gentle"
	// generation 2
}

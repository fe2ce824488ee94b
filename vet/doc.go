// Package vet judges a Spec before it ships: whether its timeouts, retries, budgets, breakers, limits and routes make sense
// together, and, given a graph of which services call each other, how often and how fast they answer, whether they make
// sense at that load.
//
//	findings := vet.Run(vet.Config{
//		Documents: []vet.Document{{Name: "gateway.yaml", Spec: spec}},
//		Graph: &vet.Graph{
//			Services: map[string]vet.Service{
//				"gateway": {Spec: "gateway.yaml", Calls: []vet.Call{{Service: "orders"}}},
//				"orders":  {Instances: 9, Latency: vet.Latency{P50: 5 * time.Millisecond, P99: 40 * time.Millisecond}},
//			},
//			Entries: []vet.Entry{{Service: "gateway", Rate: 300, Deadline: time.Second}},
//		},
//	})
//	for _, f := range findings {
//		fmt.Println(f) // gateway.yaml: warning: services.orders.outlier.maxEjected: ... [ejection-cap-zero]
//	}
//
// A finding has an id that does not change, and a sentence with the numbers and what to do. Checks lists all ids. There
// is no finding for what is a matter of taste: a Spec without mistakes has none, and the zero value is one of these.
//
// The numbers are those of calls: policies come from Spec.Effective, routes from routing.Compile. The arithmetic of load is
// that of averages, so it is blind to bursts; package sim tells what becomes of calls in a given bad hour.
//
// A Spec that Spec.Validate refuses must not be given to it.
package vet

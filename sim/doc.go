// Package sim tests a policy of zerohop before it is deployed: what becomes of calls when capacity halves, endpoints hang,
// or a service fails, answered in milliseconds by a simulation that makes the very decisions of production.
//
//	func TestOrdersSurviveBrownOut(t *testing.T) {
//		result := sim.Run(t, sim.Scenario{
//			Services: map[string]sim.Service{
//				"orders": {Endpoints: 4, Workers: 20, Queue: 100, Time: sim.Exponential(20 * time.Millisecond)},
//			},
//			Clients: []sim.Client{{Service: "orders", Rate: 2800, Timeout: time.Second, Mesh: zerohop.Config{Spec: spec}}},
//			Faults:  []sim.Fault{{Service: "orders", At: 20 * time.Second, For: 10 * time.Second, Capacity: 0.5}},
//			For:     time.Minute,
//		})
//		result.Check(t, sim.Bounds{Amplification: 1.1})
//		result.Check(t, sim.Bounds{From: 35 * time.Second, Success: 0.999, P99: 150 * time.Millisecond})
//	}
//
// A Service is a set of endpoints with workers, a queue and a law of how long a request takes; it may call other services.
// A Client makes calls at a rate, however slowly they are answered. Every client, and every endpoint of a service that calls
// others, has a zerohop.Mesh of its own: the balancer, the budget, ejection, breakers and the state machine of calls are those
// that a program is linked with, and so is what keeps their sets of endpoints. Only the network, the servers, the registry
// and the clock are simulated.
//
// A run is deterministic. It happens in one goroutine, in a bubble of testing/synctest that Run makes, and all
// randomness comes from Scenario.Seed. Seeds runs a scenario, or a random one, for many seeds at once and says how to replay
// those that fail.
//
// Whatever the scenario is, Run checks what must always hold: that a call which must not be repeated is executed once at most,
// that no attempt begins after the deadline of its call or beyond its budget, that what is in flight adds up, that permits of
// breakers come back, that no more endpoints are ejected than may be, that every client knows the endpoints again soon
// after its registry has recovered, and has not lost them to an empty answer, and more of the kind.
//
// It does not simulate what bytes do: bodies, connections and TLS are for tests with real servers.
package sim

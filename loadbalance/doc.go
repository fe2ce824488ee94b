// Package loadbalance chooses the endpoint of each attempt and keeps what is known about endpoints.
//
// A Balancer holds the Nodes of one service. Nodes outlive updates: an endpoint that stays keeps its load,
// latency and breaker. How to choose is a Builder, one function and one file per algorithm:
//
//	b := loadbalance.New(loadbalance.Config{Builder: loadbalance.PeakEWMA})
//	b.Update(endpoints)
//	pick, err := b.Pick(loadbalance.Info{Now: time.Now()})
//	// call pick.Node().Addr() ...
//	pick.Done(loadbalance.Report{Now: time.Now(), Outcome: resilience.Success, Latency: latency})
//
// Which algorithm is for what, by the name that zerohop.Policy.Balance has for it:
//
//	peak-ewma             the default: calls of similar cost, endpoints of any speed
//	least-request         calls that differ a thousandfold in cost, so that latency tells nothing of load
//	prequal               endpoints with many clients, on machines shared with others, that report their load
//	utilization           endpoints of different strength with many clients, that report their load
//	weighted-round-robin  equal counts, or shares by hand; knows nothing of speed and load
//	random                the same, with nothing that processors share
//	rendezvous            calls of one key to one endpoint: the best for up to a thousand endpoints
//	ring-hash             the same for more endpoints, or with the ring of Envoy and gRPC
//	maglev                the same with the cheapest picks and exact shares, but some keys of other endpoints move
//
// Do not use it for connections that are opened once and kept for hours: it balances calls.
package loadbalance

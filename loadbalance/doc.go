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
// Do not use it for connections that are opened once and kept for hours: it balances calls.
package loadbalance

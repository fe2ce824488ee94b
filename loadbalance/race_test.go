//go:build race

package loadbalance

// raced says that the race detector is on, which has nothing to find in simulations that run in one goroutine, and makes them
// take ten times as long: fewer are made.
const raced = true

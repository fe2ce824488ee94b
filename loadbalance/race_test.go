//go:build race

package loadbalance

// raced says that the race detector is on, which has nothing to find in simulations that run in one goroutine, and makes them
// take ten times as long: fewer are made. Each trial is judged by itself, with the calls and the bounds of the full test, so
// that those which are left find what they would find there. "make test" makes all of them without the race detector.
const raced = true

//go:build race

package telemetry

// raced says that the race detector is on, which has nothing to find in what one goroutine computes, and makes it take ten times as
// long: fewer rounds are made, each judged as in the full test. "make test" makes all of them without the race detector.
const raced = true

//go:build race

package resilience

// raceEnabled makes the exploration smaller: the race detector makes it ten times slower, and it has one goroutine.
const raceEnabled = true

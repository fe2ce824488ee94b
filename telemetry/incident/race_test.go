//go:build race

package incident

// raced says that the race detector is on: fewer incidents are made up, each judged as in the full test. "make test" makes up all of
// them without the race detector.
const raced = true

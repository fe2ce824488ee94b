// Package bench compares the cost of choosing an endpoint, and of policies, with that of other libraries. It is a module of
// its own, so that only who runs the benchmarks downloads those. README.md has results.
package bench

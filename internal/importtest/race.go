//go:build race

package importtest

// every says which of the values are changed under the race detector: each import happens in one goroutine, where it finds nothing,
// and takes ten times as long. "make test" changes all of them without it.
const every = 6

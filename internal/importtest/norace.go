//go:build !race

package importtest

// every says which of the values are changed: all.
const every = 1

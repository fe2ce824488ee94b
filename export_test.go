package zerohop

import (
	"maps"
	"slices"
)

// Algorithms are the names of the built-in ones.
func Algorithms() []string { return slices.Sorted(maps.Keys(balancers)) }

// Hashes reports whether an algorithm looks at keys.
func Hashes(balance string) bool { return hashes(balance) }

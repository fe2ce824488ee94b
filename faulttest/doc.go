// Package faulttest holds tests only: they put real backend processes under real load, stop, slow, break and kill some
// of them, and hold the library with its default settings to figures of what callers may see of that.
//
// They measure time, so they are to run alone and without the race detector; "make test" does that. Those that make a few
// hundred calls a second and have bounds far from what they measure are parallel: two cores have room for four of them,
// which -parallel=4 says. -v shows the figures.
package faulttest

// Package faulttest holds tests only: they put real backend processes under real load, stop, slow, break and kill some
// of them, and hold the library with its default settings to figures of what callers may see of that.
//
// They measure time, so they are to run alone and without the race detector; "make test" does that. -v shows the
// figures.
package faulttest

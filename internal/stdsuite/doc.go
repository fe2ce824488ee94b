// Package stdsuite runs test suites of the standard library over the transports of this module: what net/http promises
// to its users, those who put a Transport in place of http.DefaultTransport are to keep.
//
// The suites are read from the Go distribution that runs the tests. Nothing of them is kept here.
package stdsuite

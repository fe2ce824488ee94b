// Package servertest runs the processes of real servers for integration tests: started, frozen, killed and started again, and
// gone when the test ends, even if that is killed. It works on Unix only.
package servertest

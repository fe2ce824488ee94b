package loadbalance

import "testing"

// long skips a test with -short: it takes seconds, and many more under the race detector, which has nothing to find in its one
// goroutine.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes seconds: runs without -short")
	}
}

package sim

import (
	"runtime/debug"
	"testing"

	"go.uber.org/goleak"
)

// Many short simulations make much garbage and keep little: to collect it four times less often saves a fifth of the time.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	goleak.VerifyTestMain(m)
}

// heavy skips a test that takes a second or more, and ten times that under the race detector, which finds little in one
// goroutine.
func heavy(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes long")
	}
}

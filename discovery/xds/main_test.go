package xds

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// planeVariable makes the test binary a control plane that listens on the address it holds.
const planeVariable = "ZEROHOP_XDS_PLANE"

func TestMain(m *testing.M) {
	if addr := os.Getenv(planeVariable); addr != "" {
		servePlane(addr)
		return
	}
	goleak.VerifyTestMain(m)
}

package xds

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// planeVariable makes the test binary a control plane that listens on the address it holds.
const planeVariable = "ZEROHOP_XDS_PLANE"

func TestMain(m *testing.M) {
	if addr, ok := os.LookupEnv(planeVariable); ok {
		servePlane(addr)
		return
	}
	goleak.VerifyTestMain(m)
}

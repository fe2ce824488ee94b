//go:build unix

package consultest

import (
	"os"
	"os/exec"
	"testing"

	"github.com/zerohop/zerohop/internal/servertest"
	"github.com/zerohop/zerohop/internal/testenv"
)

// binary returns the path of a Consul server: $ZEROHOP_CONSUL, else the newest one that tools/consul/build.sh made, else
// the one in $PATH.
func binary(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("ZEROHOP_CONSUL"); path != "" {
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("ZEROHOP_CONSUL: %v", err)
		}
		return path
	}
	if path := servertest.NewestBuild("consul-*/consul"); path != "" {
		return path
	}
	path, err := exec.LookPath("consul")
	if err != nil {
		testenv.Need(t, "consul", "no Consul server: run tools/consul/build.sh once, or name one in ZEROHOP_CONSUL")
	}
	return path
}

//go:build unix

package kubetest

import (
	"os"
	"os/exec"
	"testing"

	"github.com/zerohop/zerohop/internal/servertest"
	"github.com/zerohop/zerohop/internal/testenv"
)

// binaries returns the paths of an API server and of etcd. The API server is $ZEROHOP_KUBE_APISERVER, else the newest one
// that tools/kubernetes/build.sh made, else the one in $PATH; etcd is the one in $PATH.
func binaries(t testing.TB) (apiServer, etcd string) {
	t.Helper()
	etcd, err := exec.LookPath("etcd")
	if err != nil {
		testenv.Need(t, "kubernetes", "no etcd: install it, on Debian the package etcd-server")
	}
	if path := os.Getenv("ZEROHOP_KUBE_APISERVER"); path != "" {
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("ZEROHOP_KUBE_APISERVER: %v", err)
		}
		return path, etcd
	}
	if path := servertest.NewestBuild("kube-apiserver-*/kube-apiserver"); path != "" {
		return path, etcd
	}
	path, err := exec.LookPath("kube-apiserver")
	if err != nil {
		testenv.Need(t, "kubernetes", "no API server: run tools/kubernetes/build.sh once, or name one in ZEROHOP_KUBE_APISERVER")
	}
	return path, etcd
}

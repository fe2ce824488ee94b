//go:build unix

package consultest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

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
	if path := newestBuild(); path != "" {
		return path
	}
	path, err := exec.LookPath("consul")
	if err != nil {
		testenv.Need(t, "consul", "no Consul server: run tools/consul/build.sh once, or name one in ZEROHOP_CONSUL")
	}
	return path
}

func newestBuild() string {
	cache := os.Getenv("XDG_CACHE_HOME") // as build.sh does, on every system
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		cache = filepath.Join(home, ".cache")
	}
	builds, _ := filepath.Glob(filepath.Join(cache, "zerohop", "consul-*", "consul")) // fails on bad patterns only
	var newest string
	var last os.FileInfo
	for _, path := range builds {
		info, err := os.Stat(path)
		if err == nil && (last == nil || info.ModTime().After(last.ModTime())) {
			newest, last = path, info
		}
	}
	return newest
}

//go:build unix

package servertest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/zerohop/zerohop/internal/porttest"
)

// NewestBuild returns the newest of the programs that match pattern below the folder where the scripts in tools leave what
// they build, or "".
func NewestBuild(pattern string) string {
	cache := os.Getenv("XDG_CACHE_HOME") // as the scripts do, on every system
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		cache = filepath.Join(home, ".cache")
	}
	builds, _ := filepath.Glob(filepath.Join(cache, "zerohop", pattern)) // fails on bad patterns only
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

// FreePorts returns ports that nobody listened on a moment ago. Another process may be faster: the caller retries.
func FreePorts(t testing.TB, n int) []int {
	t.Helper()
	ports, err := porttest.Free(n)
	if err != nil {
		t.Fatal(err)
	}
	return ports
}

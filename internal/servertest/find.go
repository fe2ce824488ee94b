//go:build unix

package servertest

import (
	"net"
	"os"
	"path/filepath"
	"testing"
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
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // at the end, so that all differ
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports
}

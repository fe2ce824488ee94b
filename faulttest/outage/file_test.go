//go:build unix

package outage

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery/file"
)

func fileFaults(*testing.T) map[string]build {
	// with returns a cell whose file gets another text, in place or by a new file.
	with := func(text string, trust zerohop.Discovery) build {
		return func(t *testing.T, service string) *cell {
			c, path := fileCell(t, service)
			c.trust = trust
			c.begin = func(t testing.TB) { replace(t, path, text) }
			return c
		}
	}
	return map[string]build{
		"garbage": with("\x00\xff\x17garbage: [", zerohop.Discovery{}),
		"foreign": with(`{"services": ["10.0.0.1:80"]}`, zerohop.Discovery{}),
		"blank":   with("", zerohop.Discovery{}),
		"empty":   with(`{"services": {"file-empty": []}}`, zerohop.Discovery{EmptyGrace: 2 * lasting}),
		"unnamed": with(`{"services": {}}`, zerohop.Discovery{EmptyGrace: 2 * lasting}),
		"truncated": func(t *testing.T, service string) *cell {
			c, path := fileCell(t, service)
			c.begin = func(t testing.TB) {
				info, err := os.Stat(path)
				if err == nil {
					err = os.Truncate(path, info.Size()/2)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			return c
		},
		"deleted": func(t *testing.T, service string) *cell {
			c, path := fileCell(t, service)
			c.begin = func(t testing.TB) {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
			return c
		},
		"moved": func(t *testing.T, service string) *cell { // with its folder
			c, path := fileCell(t, service)
			folder := filepath.Dir(path)
			c.begin = func(t testing.TB) { rename(t, folder, folder+"-away") }
			c.heal = func(t testing.TB) { rename(t, folder+"-away", folder) }
			return c
		},
		"stale": func(t *testing.T, service string) *cell {
			c, _ := fileCell(t, service)
			c.begin = func(testing.TB) {}
			return c
		},
	}
}

// fileCell returns a cell without a fault, and the path of its file.
func fileCell(t *testing.T, service string) (*cell, string) {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "endpoints")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, "endpoints.json")
	return &cell{
		resolver: &file.Resolver{Path: path},
		list: func(t testing.TB, addrs []string) {
			text, err := json.Marshal(map[string]any{"services": map[string][]string{service: addrs}})
			if err != nil {
				t.Fatal(err)
			}
			replace(t, path, string(text))
		},
		mute: true,
	}, path
}

// replace puts a file in the place of another.
func replace(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	rename(t, path+".new", path)
}

func rename(t testing.TB, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

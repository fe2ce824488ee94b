package file

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/zerohop/zerohop/config"
	"github.com/zerohop/zerohop/config/configtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ config.Source = Source{}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t testing.TB, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func rename(t testing.TB, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func link(t testing.TB, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Skip(err) // not everybody may on Windows
	}
}

// inOneStep is long enough where nobody can see half a change.
const inOneStep = time.Millisecond

// A file becomes another one in the ways of editors, of shells and of the kubelet.
func TestConformance(t *testing.T) {
	for name, set := range map[string]func(t testing.TB, path string, document []byte){
		"renamed": func(t testing.TB, path string, document []byte) {
			write(t, path+".new", document)
			rename(t, path+".new", path)
		},
		"written in place": write,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "mesh.yaml")
			src := configtest.Source{
				Source: Source{Path: path},
				Set: func(t testing.TB, document []byte) {
					if document == nil {
						remove(t, path)
						return
					}
					set(t, path, document)
				},
			}
			if name == "renamed" {
				src.Source = Source{Path: path, settle: inOneStep}
				src.Break = func(t testing.TB) {
					remove(t, path)
					if err := os.Mkdir(path, 0o700); err != nil {
						t.Fatal(err)
					}
				}
				src.Heal = func(t testing.TB) { remove(t, path) }
			}
			configtest.Test(t, src)
		})
	}
}

func TestConfigMapConformance(t *testing.T) {
	dir := t.TempDir()
	n := 0
	link(t, filepath.Join("..data", "mesh.yaml"), filepath.Join(dir, "mesh.yaml"))
	configtest.Test(t, configtest.Source{
		Source: Source{Path: filepath.Join(dir, "mesh.yaml"), settle: inOneStep},
		Set: func(t testing.TB, document []byte) {
			n++
			folder, data := fmt.Sprintf("..2026_%d", n), filepath.Join(dir, "..data")
			if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
				t.Fatal(err)
			}
			if document != nil {
				write(t, filepath.Join(dir, folder, "mesh.yaml"), document)
			}
			old, _ := os.Readlink(data) // none the first time
			link(t, folder, data+"_tmp")
			rename(t, data+"_tmp", data)
			if old != "" {
				remove(t, filepath.Join(dir, old))
			}
		},
	})
}

func TestFilesAreFoundWithoutEvents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mesh.yaml")
	write(t, path, []byte("a"))
	documents := make(chan string, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- Source{Path: path, deaf: true}.Watch(ctx, func(document []byte) { documents <- string(document) })
	}()
	if got := <-documents; got != "a" {
		t.Errorf("document is %q, want a", got)
	}
	write(t, path, []byte("b"))
	if got := <-documents; got != "b" {
		t.Errorf("document is %q, want b", got)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Watch() = %v, want %v", err, context.Canceled)
	}
}

func TestWatchFailsWithoutAFileToRead(t *testing.T) {
	dir := t.TempDir()
	big := filepath.Join(dir, "big")
	write(t, big, make([]byte, 4<<20+1))
	for path, want := range map[string]string{
		"":                          "file: Source.Path is empty",
		dir:                         "is no regular file",
		big:                         "has 4194305 bytes, more than 4194304",
		os.DevNull:                  "is no regular file",
		filepath.Join(big, "below"): "",
	} {
		err := Source{Path: path}.Watch(t.Context(), func([]byte) { t.Error("a document came of it") })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Watch() of %q = %v, want an error with %q", path, err, want)
		}
	}
}

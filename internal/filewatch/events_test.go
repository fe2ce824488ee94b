package filewatch

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func mkdir(t testing.TB, path string) {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

func link(t testing.TB, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Skip(err) // not everybody may on Windows
	}
}

func TestFoldersAreThoseOfAllLinks(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	in := func(names ...string) (list []string) {
		for _, name := range names {
			list = append(list, filepath.Join(dir, name))
		}
		return list
	}
	mkdir(t, filepath.Join(dir, "..2026_1"))
	link(t, "..2026_1", filepath.Join(dir, "..data"))
	link(t, filepath.Join("..data", "f.yaml"), filepath.Join(dir, "f.yaml"))
	mkdir(t, filepath.Join(dir, "real"))
	link(t, "real", filepath.Join(dir, "alias"))
	link(t, filepath.Join(dir, "real", "x"), filepath.Join(dir, "absolute"))
	link(t, "circle", filepath.Join(dir, "circle"))
	for path, want := range map[string][]string{
		"plain":      in(""),
		"f.yaml":     in("", "..2026_1"),
		"alias/f":    in("", "real"),
		"absolute":   in("", "real"),
		"none/below": in(""),
		"circle":     in(""),
	} {
		if got := Folders(filepath.Join(dir, path)); !slices.Equal(got, want) {
			t.Errorf("Folders(%s) = %q, want %q", path, got, want)
		}
	}
}

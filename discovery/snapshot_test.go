//go:build unix

package discovery

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var twoEndpoints = []Endpoint{{Addr: "10.0.0.1:80", Weight: 1, Meta: map[string]string{"version": "1"}}, {Addr: "10.0.0.2:80", Weight: 2, Zone: "a"}}

func TestSnapshotReturnsWhatWasSaved(t *testing.T) {
	s := Snapshot{Dir: filepath.Join(t.TempDir(), "new", "dir")}
	for _, service := range []string{"orders", "ORDERS-2", "../../etc/passwd", "a/b", "a\\b", "\x00", strings.Repeat("x", 250), "ö", "."} {
		if _, _, err := s.Load(service); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("Load(%q) = %v, want %v", service, err, os.ErrNotExist)
		}
		if err := s.Save(service, twoEndpoints); err != nil {
			t.Fatal(err)
		}
		got, heard, err := s.Load(service)
		if err != nil || !equal(got, twoEndpoints) || time.Since(heard) > time.Minute {
			t.Errorf("Load(%q) = %v, %v, %v", service, got, heard, err)
		}
		info, err := os.Stat(s.path(service))
		if err != nil || info.Mode().Perm() != 0o600 || filepath.Dir(s.path(service)) != s.Dir {
			t.Errorf("file of %q: %v, %v, want one in %s for its owner only", service, info, err, s.Dir)
		}
	}
}

func TestSnapshotIsNotUsedIfSomethingIsWrong(t *testing.T) {
	s := Snapshot{Dir: t.TempDir(), MaxAge: time.Hour}
	path := s.path("orders")
	save := func() []byte {
		t.Helper()
		if err := s.Save("orders", twoEndpoints); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	good := save()
	for i := range good { // cut, and one byte changed, anywhere
		for _, bad := range [][]byte{good[:i], append(append(append([]byte(nil), good[:i]...), good[i]^1), good[i+1:]...)} {
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if set, _, err := s.Load("orders"); err == nil {
				t.Fatalf("Load() of a file that is wrong at %d = %v, want an error", i, set)
			}
		}
	}
	for name, spoil := range map[string]func() error{
		"old":            func() error { return s.Confirm("orders", time.Now().Add(-2*time.Hour)) },
		"others write":   func() error { return os.Chmod(path, 0o620) },
		"of another":     func() error { return os.Rename(path, s.path("users")) },
		"a link":         func() error { return errors.Join(os.Rename(path, path+"2"), os.Symlink(path+"2", path)) },
		"a pipe":         func() error { return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)) },
		"a directory":    func() error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
		"far too large":  func() error { return os.Truncate(path, maxSnapshot+1) },
		"another's file": func() error { return os.Chown(path, 65534, -1) },
	} {
		os.RemoveAll(path)
		save()
		service := "orders"
		if name == "of another" {
			service = "users"
		}
		if err := spoil(); err != nil {
			if name == "another's file" {
				continue // only root can give it away
			}
			t.Fatal(err)
		}
		if set, _, err := s.Load(service); err == nil || !strings.Contains(err.Error(), "not used") {
			t.Errorf("%s: Load() = %v, %v, want an error", name, set, err)
		}
	}
}

func TestRunChecksSnapshotsAsAnswers(t *testing.T) {
	dir := t.TempDir()
	s := Snapshot{Dir: dir}
	if err := s.Save("orders", append([]Endpoint{{Addr: "169.254.169.254:80"}, {Addr: "x"}}, twoEndpoints...)); err != nil {
		t.Fatal(err)
	}
	if err := s.Save("bad", []Endpoint{{Addr: "127.0.0.1:80"}}); err != nil {
		t.Fatal(err)
	}
	for service, want := range map[string]int{"orders": 2, "bad": 0, "none": 0} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			hangs := sourced{remote: true}
			got, rejected := 0, 0
			done := make(chan struct{})
			go func() {
				defer close(done)
				opts := RunOptions{Snapshot: s, Observe: func(e Event) {
					if e.Kind == EventSnapshotRejected {
						rejected++
					}
				}}
				_ = Run(ctx, hanging{hangs}, service, opts, func(set []Endpoint) { got = len(set) })
			}()
			time.Sleep(time.Second)
			cancel()
			<-done
			if got != want || (rejected > 0) != (service == "bad") {
				t.Errorf("%s: %d endpoints and %d rejected, want %d", service, got, rejected, want)
			}
		})
	}
}

// hanging never answers.
type hanging struct{ sourced }

func (hanging) Watch(ctx context.Context, _ string, _ func([]Endpoint)) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestSnapshotSurvivesKilledWriters(t *testing.T) {
	if dir := os.Getenv("SNAPSHOT_WRITER"); dir != "" {
		for n := 1; ; n++ { // until it is killed
			_ = Snapshot{Dir: dir}.Save("orders", append([]Endpoint{{Addr: "10.0.0.9:80", Weight: uint32(n)}}, twoEndpoints...))
		}
	}
	s := Snapshot{Dir: t.TempDir()}
	if err := s.Save("orders", twoEndpoints); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		writer := exec.Command(os.Args[0], "-test.run=^TestSnapshotSurvivesKilledWriters$")
		writer.Env = append(os.Environ(), "SNAPSHOT_WRITER="+s.Dir)
		if err := writer.Start(); err != nil {
			t.Fatal(err)
		}
		end := time.Now().Add(30 * time.Millisecond)
		for time.Now().Before(end) {
			if _, _, err := s.Load("orders"); err != nil {
				t.Errorf("Load() while it is written = %v", err)
			}
		}
		_ = writer.Process.Kill()
		_ = writer.Wait()
		if set, _, err := s.Load("orders"); err != nil || len(set) < 2 {
			t.Fatalf("Load() after the writer was killed = %v, %v", set, err)
		}
	}
}

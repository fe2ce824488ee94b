package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/discoverytest"
	"github.com/zerohop/zerohop/internal/filewatch"
)

const patience = 15 * time.Second

// replace puts a file with the given text at path in one step.
func replace(t testing.TB, path, text string) {
	t.Helper()
	beside := path + ".new"
	write(t, beside, text)
	if err := os.Rename(beside, path); err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// orders is a file with one endpoint of the service orders.
func orders(addr string) string { return "services: {orders: ['" + addr + "']}\n" }

func TestResolverConformance(t *testing.T) {
	for name, tt := range map[string]struct {
		file  string
		broke func(t testing.TB, path string)
	}{
		"invalid": {"endpoints.yaml", func(t testing.TB, path string) { write(t, path, "services: {orders: [x]}\n") }},
		"removed": {"endpoints.json", func(t testing.TB, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), tt.file)
			services := map[string][]discovery.Endpoint{}
			broken := false
			save := func(t testing.TB) {
				var list []string
				for service, set := range services {
					var addrs []string
					for _, ep := range set {
						addrs = append(addrs, fmt.Sprintf("%q", ep.Addr))
					}
					list = append(list, fmt.Sprintf("%q: [%s]", service, strings.Join(addrs, ", ")))
				}
				if !broken {
					replace(t, path, `{"services": {`+strings.Join(list, ", ")+"}}")
				}
			}
			save(t)
			discoverytest.Test(t, discoverytest.Source{
				Resolver: &Resolver{Path: path},
				Set: func(t testing.TB, service string, set []discovery.Endpoint) {
					delete(services, service)
					if set != nil {
						services[service] = set
					}
					save(t)
				},
				Break: func(t testing.TB) { broken = true; tt.broke(t, path) },
				Heal:  func(t testing.TB) { broken = false; save(t) },
			})
		})
	}
}

// follower gets the sets and failures of one run of discovery.
type follower struct {
	t      testing.TB
	sets   chan []discovery.Endpoint
	failed chan error
}

func follow(t testing.TB, r discovery.Resolver, service string) *follower {
	f := &follower{t: t, sets: make(chan []discovery.Endpoint, 10_000), failed: make(chan error, 10_000)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { // ended and awaited by the cleanup
		defer close(done)
		_ = discovery.Run(ctx, r, service, discovery.RunOptions{MaxRemoval: 1, Observe: func(e discovery.Event) {
			if e.Kind == discovery.EventWatchFailed {
				f.failed <- e.Err
			}
		}}, func(set []discovery.Endpoint) { f.sets <- set })
	}()
	t.Cleanup(func() { cancel(); <-done })
	return f
}

// until reads sets until one has just the address.
func (f *follower) until(want string) {
	f.t.Helper()
	late := time.After(patience)
	for {
		select {
		case set := <-f.sets:
			if len(set) == 1 && set[0].Addr == want {
				return
			}
		case <-late:
			f.t.Fatalf("no set with %s within %v", want, patience)
		}
	}
}

func (f *follower) failure() error {
	f.t.Helper()
	select {
	case err := <-f.failed:
		return err
	case <-time.After(patience):
		f.t.Fatalf("no failure within %v", patience)
		return nil
	}
}

func TestChangesShow(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		deaf    bool
		prepare func(t *testing.T, dir string) (path string, change func())
	}{
		"rename": {false, func(t *testing.T, dir string) (string, func()) {
			path := filepath.Join(dir, "f")
			write(t, path, orders("a:1"))
			return path, func() { replace(t, path, orders("a:2")) }
		}},
		"written in place": {false, func(t *testing.T, dir string) (string, func()) {
			path := filepath.Join(dir, "f")
			write(t, path, orders("a:1"))
			return path, func() { write(t, path, orders("a:2")) }
		}},
		"no events": {true, func(t *testing.T, dir string) (string, func()) {
			path := filepath.Join(dir, "f")
			write(t, path, orders("a:1"))
			return path, func() { replace(t, path, orders("a:2")) }
		}},
		"ConfigMap": {false, func(t *testing.T, dir string) (string, func()) {
			configMap(t, dir, "1", orders("a:1"))
			return filepath.Join(dir, "f.yaml"), func() { configMap(t, dir, "2", orders("a:2")) }
		}},
		"target of a link": {false, func(t *testing.T, dir string) (string, func()) {
			other := t.TempDir()
			target, path := filepath.Join(other, "g"), filepath.Join(dir, "f")
			write(t, target, orders("a:1"))
			link(t, target, path)
			return path, func() { replace(t, target, orders("a:2")) }
		}},
		"another folder": {false, func(t *testing.T, dir string) (string, func()) {
			path := filepath.Join(dir, "sub", "f")
			mkdir(t, filepath.Dir(path))
			write(t, path, orders("a:1"))
			return path, func() {
				if err := os.Rename(filepath.Dir(path), filepath.Join(dir, "old")); err != nil {
					t.Fatal(err)
				}
				mkdir(t, filepath.Dir(path))
				write(t, path, orders("a:2"))
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, change := tt.prepare(t, t.TempDir())
			f := follow(t, &Resolver{Path: path, deaf: tt.deaf}, "Orders")
			f.until("a:1")
			since := time.Now()
			change()
			f.until("a:2")
			if got := time.Since(since); !tt.deaf && got > 2*time.Second {
				t.Errorf("the change was seen after %v, want at most 2 s", got)
			}
		})
	}
}

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

// configMap does what the kubelet does with the volume of a ConfigMap that has the key "f.yaml".
func configMap(t testing.TB, dir, version, text string) {
	t.Helper()
	folder := "..2026_" + version
	mkdir(t, filepath.Join(dir, folder))
	write(t, filepath.Join(dir, folder, "f.yaml"), text)
	data := filepath.Join(dir, "..data")
	old, _ := os.Readlink(data) // none the first time
	link(t, folder, filepath.Join(dir, "..data_tmp"))
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), data); err != nil {
		t.Fatal(err)
	}
	if old == "" {
		link(t, filepath.Join("..data", "f.yaml"), filepath.Join(dir, "f.yaml"))
		return
	}
	if err := os.RemoveAll(filepath.Join(dir, old)); err != nil {
		t.Fatal(err)
	}
}

func TestMistakesAndRemovalKeepTheLastSet(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f.yaml")
	replace(t, path, orders("a:1"))
	f := follow(t, &Resolver{Path: path}, "orders")
	f.until("a:1")

	replace(t, path, "services:\n  orders:\n  - a:2\n  invoices: [b]\n")
	if got, want := f.failure().Error(), "file: "+path+`:4: services.invoices[0] is "b", want "host:port"`; got != want {
		t.Errorf("error is %q, want %q", got, want)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for !errors.Is(f.failure(), fs.ErrNotExist) {
	}
	replace(t, path, "")
	for !strings.Contains(f.failure().Error(), "is empty") {
	}
	if n := len(f.sets); n != 0 {
		t.Errorf("%d sets came of a file that is not valid", n)
	}
	replace(t, path, orders("a:3"))
	since := time.Now()
	f.until("a:3")
	if got := time.Since(since); got > 2*time.Second {
		t.Errorf("the file was seen %v after it was healed, want at most 2 s", got)
	}
}

func TestWatchRejectsWhatIsNoFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	big := filepath.Join(dir, "big")
	write(t, big, strings.Repeat("#", filewatch.MaxSize+1))
	for path, want := range map[string]string{
		"":                          "Resolver.Path is empty",
		dir:                         "is no regular file",
		big:                         "has 4194305 bytes, more than 4194304",
		os.DevNull:                  "is no regular file",
		filepath.Join(dir, "none"):  fs.ErrNotExist.Error(),
		filepath.Join(big, "below"): "",
	} {
		err := (&Resolver{Path: path}).Watch(t.Context(), "orders", func([]discovery.Endpoint) { t.Error("a set came of it") })
		if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, discovery.ErrUnknownService) {
			t.Errorf("Watch() of %q = %v, want an error with %q", path, err, want)
		}
	}
}

func TestWatchGivesUpOnAFileThatNeverSettles(t *testing.T) {
	f := &feed{path: filepath.Join(t.TempDir(), "f"), changed: make(chan struct{})}
	write(t, f.path, orders("a:1"))
	f.look(filewatch.Listen(true))
	if c, _ := f.state(); c != nil {
		t.Fatalf("a file that was just written is taken: %+v", c)
	}
	f.restless = f.restless.Add(-restlessTime)
	f.look(filewatch.Listen(true))
	if c, _ := f.state(); c == nil || c.err == nil || !strings.Contains(c.err.Error(), "kept changing") {
		t.Errorf("state is %+v, want an error", c)
	}
}

func TestManyWatchesShareOneFeed(t *testing.T) {
	const services = 200
	path := filepath.Join(t.TempDir(), "f.yaml")
	text := func(port int) string {
		var b strings.Builder
		b.WriteString("services:\n")
		for i := range services {
			fmt.Fprintf(&b, "  s%d: ['a:%d']\n", i, port)
		}
		return b.String()
	}
	replace(t, path, text(1))
	before := runtime.NumGoroutine()
	r := &Resolver{Path: path}
	followers := make([]*follower, services)
	for i := range followers {
		followers[i] = follow(t, r, fmt.Sprint("s", i))
	}
	for _, f := range followers {
		f.until("a:1")
	}
	if got, want := runtime.NumGoroutine()-before, services+5; got > want {
		t.Errorf("%d goroutines for %d services, want at most %d", got, services, want)
	}
	replace(t, path, text(2))
	for _, f := range followers {
		f.until("a:2")
	}
}

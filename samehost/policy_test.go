//go:build linux || darwin

package samehost

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zerohop/zerohop/internal/testenv"
)

// short returns a directory with a path that leaves room for the names of sockets.
func short(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "z")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// listen makes a socket at a path and returns its address. Connections to it are closed.
func listen(t *testing.T, path string) Address {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return addressOf(t, path)
}

func addressOf(t *testing.T, path string) Address {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return Address{Path: path, Host: Host(), File: fileOf(info)}
}

func TestPolicyRefusesWhatOthersCouldHaveMade(t *testing.T) {
	mkdir := func(t *testing.T, path string, mode os.FileMode) string {
		t.Helper()
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	link := func(t *testing.T, old, path string) {
		t.Helper()
		if err := os.Symlink(old, path); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		make func(t *testing.T, root string) (Policy, Address)
		want string // empty if it is connected to
	}{
		"in the directory": {func(t *testing.T, root string) (Policy, Address) {
			return Policy{Directories: []string{root}}, listen(t, filepath.Join(root, "s"))
		}, ""},
		"deeper": {func(t *testing.T, root string) (Policy, Address) {
			return Policy{Directories: []string{root}}, listen(t, filepath.Join(mkdir(t, root+"/a/b", 0o700), "s"))
		}, ""},
		"in the second directory": {func(t *testing.T, root string) (Policy, Address) {
			return Policy{Directories: []string{"/nowhere", root + "/"}}, listen(t, filepath.Join(root, "s"))
		}, ""},
		"directory named by a link": {func(t *testing.T, root string) (Policy, Address) {
			there := mkdir(t, root+"/real", 0o700)
			link(t, there, root+"/alias")
			return Policy{Directories: []string{root + "/alias"}}, listen(t, filepath.Join(there, "s"))
		}, ""},
		"path by the same link": {func(t *testing.T, root string) (Policy, Address) {
			there := mkdir(t, root+"/real", 0o700)
			link(t, there, root+"/alias")
			a := listen(t, filepath.Join(there, "s"))
			a.Path = root + "/alias/s"
			return Policy{Directories: []string{root + "/alias"}}, a
		}, ""},
		"in the second of two that hold it": {func(t *testing.T, root string) (Policy, Address) {
			a := listen(t, filepath.Join(mkdir(t, root+"/open/mine", 0o700), "s"))
			mkdir(t, root+"/open", 0o777)
			return Policy{Directories: []string{root + "/open", root + "/open/mine"}}, a
		}, ""},
		"elsewhere": {func(t *testing.T, root string) (Policy, Address) {
			return Policy{Directories: []string{mkdir(t, root+"/a", 0o700)}}, listen(t, filepath.Join(root, "s"))
		}, "in none of the directories"},
		"a name that begins alike": {func(t *testing.T, root string) (Policy, Address) {
			return Policy{Directories: []string{mkdir(t, root+"/a", 0o700)}}, listen(t, filepath.Join(mkdir(t, root+"/ab", 0o700), "s"))
		}, "in none of the directories"},
		"directory that leads out": {func(t *testing.T, root string) (Policy, Address) {
			in, out := mkdir(t, root+"/in", 0o700), mkdir(t, root+"/out", 0o700)
			link(t, out, in+"/way")
			a := listen(t, filepath.Join(out, "s"))
			a.Path = in + "/way/s"
			return Policy{Directories: []string{in}}, a
		}, "is not a directory"},
		"socket that leads out": {func(t *testing.T, root string) (Policy, Address) {
			in, out := mkdir(t, root+"/in", 0o700), mkdir(t, root+"/out", 0o700)
			a := listen(t, filepath.Join(out, "s"))
			link(t, a.Path, in+"/s")
			a.Path = in + "/s"
			return Policy{Directories: []string{in}}, a
		}, "is not a socket"},
		"file": {func(t *testing.T, root string) (Policy, Address) {
			if err := os.WriteFile(root+"/s", nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return Policy{Directories: []string{root}}, addressOf(t, root+"/s")
		}, "is not a socket"},
		"directory others write to": {func(t *testing.T, root string) (Policy, Address) {
			return Policy{Directories: []string{root}}, listen(t, filepath.Join(mkdir(t, root+"/a", 0o777), "s"))
		}, "others can write"},
		"directory the group writes to": {func(t *testing.T, root string) (Policy, Address) {
			return Policy{Directories: []string{mkdir(t, root+"/a", 0o770)}}, listen(t, filepath.Join(root+"/a", "s"))
		}, "others can write"},
		"directory of somebody else": {func(t *testing.T, root string) (Policy, Address) {
			return Policy{Directories: []string{root}, Owners: []uint32{uint32(os.Geteuid()) + 1}}, listen(t, filepath.Join(root, "s"))
		}, "not one of the owners"},
		"another socket at the path": {func(t *testing.T, root string) (Policy, Address) {
			a := listen(t, filepath.Join(root, "s"))
			a.File = "1-2-3"
			return Policy{Directories: []string{root}}, a
		}, "not the one that the instance made"},
		"gone": {func(t *testing.T, root string) (Policy, Address) {
			return Policy{Directories: []string{root}}, Address{Path: root + "/s", Host: Host(), File: "1-2-3"}
		}, "no such file"},
		"left behind": {func(t *testing.T, root string) (Policy, Address) {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: root + "/s", Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			a := addressOf(t, root+"/s")
			l.Close()
			return Policy{Directories: []string{root}}, a
		}, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			p, a := c.make(t, short(t))
			if err := p.Validate(); err != nil {
				t.Fatal(err)
			}
			conn, err := NewSocket(&p, a).Dial(t.Context())
			if err == nil {
				conn.Close()
			}
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("Dial() = %v, want %q", err, c.want)
			}
			want, ok := map[string]Reason{
				"": "", "no such file": ReasonGone, "refused": ReasonRefused, "not the one that the instance made": ReasonReplaced,
			}[c.want]
			if !ok {
				want = ReasonForbidden
			}
			if got := ReasonOf(err); got != want {
				t.Errorf("ReasonOf(%v) = %q, want %q", err, got, want)
			}
		})
	}
}

// Root may own sockets of anybody, but is nobody's peer by chance: tests that run as root can say so.
func TestDialRefusesSocketsOfOtherUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		testenv.Need(t, "root", "only root can give a file to another user")
	}
	dir := short(t)
	a := listen(t, filepath.Join(dir, "s"))
	if err := os.Lchown(a.Path, 12345, -1); err != nil {
		t.Fatal(err)
	}
	p := Policy{Directories: []string{dir}}
	if _, err := NewSocket(&p, a).Dial(t.Context()); err == nil || !strings.Contains(err.Error(), "user 12345, who owns it") {
		t.Errorf("Dial() = %v, want who owns the socket", err)
	}
	// The file and its directory are right, but who listens is another user.
	p.Owners = []uint32{12345}
	if err := os.Chown(dir, 12345, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := NewSocket(&p, a).Dial(t.Context()); err == nil || !strings.Contains(err.Error(), "user 0, who listens there") {
		t.Errorf("Dial() = %v, want who listens", err)
	}
}

func TestPolicyNamesItsMistakes(t *testing.T) {
	err := Policy{Directories: []string{"run", "/", "/run/../", "/run"}}.Validate()
	for i, want := range []bool{true, true, true, false} {
		field := "directories[" + string(rune('0'+i)) + "]"
		if got := err != nil && strings.Contains(err.Error(), field); got != want {
			t.Errorf("Validate() = %v, names %s: %t, want %t", err, field, got, want)
		}
	}
}

func TestAddressOfTakesNothingOddFromARegistry(t *testing.T) {
	good := map[string]string{KeyPath: "/run/a/s", KeyHost: Host(), KeyFile: "1-2-3", "version": "2"}
	if a, ok := AddressOf(good); !ok || !a.Near() {
		t.Errorf("AddressOf() = %v, %t, want one on this host", a, ok)
	}
	for _, path := range []string{
		"", "s", "@s", "\x00s", "run/s", "/run/../etc/s", "/run//s", "/run/s/", "/run/\x00s", "/" + strings.Repeat("a", maxPath),
	} {
		meta := map[string]string{KeyPath: path, KeyHost: Host(), KeyFile: "1-2-3"}
		if _, ok := AddressOf(meta); ok {
			t.Errorf("AddressOf() took the path %q", path)
		}
	}
	for _, key := range []string{KeyHost, KeyFile} {
		meta := map[string]string{KeyPath: "/run/a/s", KeyHost: Host(), KeyFile: "1-2-3", "version": "2"}
		meta[key] = ""
		if _, ok := AddressOf(meta); ok {
			t.Errorf("AddressOf() did without %s", key)
		}
	}
	other := Address{Path: "/run/a/s", Host: "00000000-0000-0000-0000-000000000000", File: "1-2-3"}
	if other.Near() {
		t.Error("Near() = true for another host")
	}
}

func TestSocketRestsLongerEachTime(t *testing.T) {
	p := Policy{Directories: []string{"/nowhere"}}
	s := NewSocket(&p, Address{Path: "/nowhere/s"})
	var last time.Duration
	for range 12 {
		before := time.Now()
		s.Report(errors.New("broken"))
		until, err := s.Failed()
		rest := until.Sub(before)
		if err == nil || rest < last-firstRest/2 || rest > lastRest+time.Second {
			t.Fatalf("Failed() = %v, %v after a rest of %v", rest, err, last)
		}
		last = rest
		if _, err := s.Dial(t.Context()); !errors.Is(err, ErrResting) || ReasonOf(err) != ReasonSilent {
			t.Errorf("Dial() = %v, %q, want %v, %q", err, ReasonOf(err), ErrResting, ReasonSilent)
		}
		s.mu.Lock()
		s.until = time.Time{} // it has rested
		s.mu.Unlock()
	}
	if last < lastRest {
		t.Errorf("the longest rest is %v, want %v", last, lastRest)
	}
	s.Report(nil)
	if _, err := s.Failed(); err != nil || !s.Works() {
		t.Errorf("Failed() = %v, Works() = %t after a success", err, s.Works())
	}
}

// A server that is behind with accepting connections is not waited for.
func TestDialDoesNotWaitForAFullBacklog(t *testing.T) {
	path := filepath.Join(short(t), "s")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	p, a := Policy{Directories: []string{filepath.Dir(path)}}, addressOf(t, path)
	for range 100 { // systems let a few more in than they are told
		conn, err := NewSocket(&p, a).Dial(t.Context())
		if err != nil {
			if got := ReasonOf(err); got != ReasonBusy && (runtime.GOOS == "linux" || got != ReasonRefused) {
				t.Errorf("ReasonOf(%v) = %q, want %q", err, got, ReasonBusy)
			}
			return
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Error("Dial() made 100 connections that nobody has accepted")
}

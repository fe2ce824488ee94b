//go:build linux || darwin

package samehost

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// open listens on both and closes it with the test.
func open(t *testing.T, c ListenConfig) *Listener {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := Listen(tcp, c)
	if err != nil {
		tcp.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestListenerTakesConnectionsOfBothKinds(t *testing.T) {
	dir := short(t) + "/made"
	l := open(t, ListenConfig{Directory: dir})
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v, want mode 0700", info.Mode(), err)
	}
	a, ok := AddressOf(l.Meta())
	if !ok || !a.Near() {
		t.Fatalf("AddressOf(%v) = %v, %t, want one on this host", l.Meta(), a, ok)
	}
	if info, err = os.Lstat(a.Path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v, want mode 0600", info.Mode(), err)
	}
	p := Policy{Directories: []string{dir}}
	unix, err := NewSocket(&p, a).Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close()
	tcp, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	var kinds []string
	for range 2 {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, c.LocalAddr().Network())
		c.Close()
	}
	slices.Sort(kinds)
	if !slices.Equal(kinds, []string{"tcp", "unix"}) {
		t.Errorf("connections of %v", kinds)
	}
	if err := l.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
	if _, err := os.Lstat(a.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept() = %v, want that it is closed", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("second Close() = %v", err)
	}
}

func TestCloseLeavesTheSocketOfAnotherAlone(t *testing.T) {
	dir := short(t)
	l := open(t, ListenConfig{Directory: dir, Name: "s"})
	path := l.addr.Path
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other := open(t, ListenConfig{Directory: dir, Name: "s"})
	if err := l.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
	c, err := net.Dial("unix", other.addr.Path)
	if err != nil {
		t.Fatalf("the other one is gone: %v", err)
	}
	c.Close()
}

func TestListenReplacesOnlyWhatIsDead(t *testing.T) {
	dir := short(t)
	dead := func(name string) string {
		path := filepath.Join(dir, name)
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		l.Close()
		return path
	}
	swept := dead(prefix + "012345" + suffix)
	named, foreign := dead("s"), dead("t")
	alive := open(t, ListenConfig{Directory: dir})
	open(t, ListenConfig{Directory: dir, Name: "s"})
	for path, want := range map[string]bool{swept: false, named: true, foreign: true, alive.addr.Path: true} {
		if _, err := os.Lstat(path); (err == nil) != want {
			t.Errorf("%s is there: %v, want %t", path, err, want)
		}
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open777 := filepath.Join(short(t), "open")
	if err := os.Mkdir(open777, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open777, 0o777); err != nil {
		t.Fatal(err)
	}
	for want, c := range map[string]ListenConfig{
		"somebody listens":     {Directory: dir, Name: "s"},
		"is not a socket":      {Directory: dir, Name: "file"},
		"no name for a socket": {Directory: dir, Name: "../s"},
		"not an absolute path": {Directory: "run"},
		"others can write":     {Directory: open777},
		"more than 103 bytes":  {Directory: dir, Name: strings.Repeat("n", maxPath)},
	} {
		if l, err := Listen(tcp, c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Listen(%+v) = %v, %v, want %q", c, l, err, want)
		}
	}
	_, err = Listen(tls.NewListener(tcp, &tls.Config{}), ListenConfig{Directory: dir})
	if err == nil || !strings.Contains(err.Error(), "TLS") {
		t.Errorf("Listen() of TLS = %v, want an error", err)
	}
}

// Processes that start at the same time must not take each other's socket for a dead one.
func TestListenersThatStartTogetherDoNotRemoveEachOther(t *testing.T) {
	dir := short(t)
	var wg sync.WaitGroup
	listeners := make([]*Listener, 20)
	for i := range listeners {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer tcp.Close()
		wg.Go(func() {
			var err error
			if listeners[i], err = Listen(tcp, ListenConfig{Directory: dir}); err != nil {
				t.Errorf("Listen() = %v", err)
			}
		})
	}
	wg.Wait()
	p := Policy{Directories: []string{dir}}
	for _, l := range listeners {
		if l == nil {
			continue
		}
		defer l.Close()
		c, err := NewSocket(&p, l.addr).Dial(t.Context())
		if err != nil {
			t.Errorf("Dial() = %v", err)
			continue
		}
		c.Close()
	}
}

func TestCloseEndsAcceptAndLeavesConnectionsAlone(t *testing.T) {
	dir := short(t)
	l := open(t, ListenConfig{Directory: dir})
	c, err := net.Dial("unix", l.addr.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ended := make(chan error)
	go func() {
		_, err := l.Accept()
		ended <- err
	}()
	l.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept() = %v, want that it is closed", err)
	}
	if _, err := io.WriteString(s, "x"); err != nil {
		t.Errorf("Write() = %v", err)
	}
	var b [1]byte
	if _, err := c.Read(b[:]); err != nil {
		t.Errorf("Read() = %v", err)
	}
}

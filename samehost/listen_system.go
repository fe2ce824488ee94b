//go:build linux || darwin

package samehost

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// Names of sockets that have none of their own, and of the lock.
const (
	prefix, suffix = "zerohop-", ".sock"
	lockName       = ".zerohop.lock"
)

// open makes the socket.
func (l *Listener) open(c ListenConfig) error {
	if Host() == "" {
		return errors.New("the system does not say which boot this is")
	}
	dir, err := prepare(c.Directory)
	if err != nil {
		return err
	}
	if c.Name != filepath.Base(c.Name) && c.Name != "" || c.Name == "." || c.Name == ".." || c.Name == lockName {
		return fmt.Errorf("%q is no name for a socket", c.Name)
	}
	// Between bind and listen a socket looks like one that was left behind, so one process at a time does either.
	unlock, err := lock(dir)
	if err != nil {
		return err
	}
	defer unlock()
	name := c.Name
	if name == "" {
		sweep(dir)
		var b [6]byte
		rand.Read(b[:])
		name = prefix + hex.EncodeToString(b[:]) + suffix
	}
	path := filepath.Join(dir, name)
	if len(path) > maxPath {
		return fmt.Errorf("path %q of the socket has more than %d bytes", path, maxPath)
	}
	if err := vacate(path); err != nil {
		return err
	}
	l.unix, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		l.unix = nil
		return err
	}
	l.unix.SetUnlinkOnClose(false) // by then it may be another one
	mode := c.Mode
	if mode == 0 {
		mode = 0o600
	}
	var info fs.FileInfo
	if err = os.Chmod(path, mode.Perm()); err == nil {
		info, err = os.Lstat(path)
	}
	if err != nil {
		os.Remove(path)
		l.unix.Close()
		l.unix = nil
		return err
	}
	l.addr = Address{Path: path, Host: Host(), File: fileOf(info)}
	return nil
}

// remove removes the socket if it is still ours.
func (l *Listener) remove() {
	if info, err := os.Lstat(l.addr.Path); err == nil && fileOf(info) == l.addr.File {
		os.Remove(l.addr.Path)
	}
}

// prepare makes the directory if there is none, and returns it without symbolic links.
func prepare(dir string) (string, error) {
	if !filepath.IsAbs(dir) {
		return "", fmt.Errorf("directory %q is not an absolute path", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	// Callers would refuse the socket.
	return dir, (&Policy{}).checkDirectory(dir)
}

// lock keeps other listeners out of the directory until unlock is called.
func lock(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, os.NewSyscallError("flock", err)
		}
	}
}

// vacate removes a socket that nobody listens on. It is an error if somebody does, or if there is something else.
func vacate(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is there, and is not a socket", path)
	}
	conn, err := net.Dial("unix", path)
	switch {
	case err == nil:
		conn.Close()
		return fmt.Errorf("somebody listens on %s", path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	}
	return fmt.Errorf("somebody may listen on %s: %w", path, err)
}

// sweep removes what processes that are gone have left behind.
func sweep(dir string) {
	list, _ := filepath.Glob(filepath.Join(escape(dir), prefix+"*"+suffix))
	for _, path := range list {
		_ = vacate(path) // it is in use, or somebody else's
	}
}

// escape makes a path a pattern that matches it alone.
func escape(path string) string {
	var b []byte
	for i := range len(path) {
		if c := path[i]; c == '*' || c == '?' || c == '[' || c == '\\' {
			b = append(b, '\\')
		}
		b = append(b, path[i])
	}
	return string(b)
}

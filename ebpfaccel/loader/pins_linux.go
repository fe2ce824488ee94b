package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

const bpfMagic = 0xcafe4a11

// A pinDir is the directory of the pins.
type pinDir struct {
	path string
	file *os.File
}

// openPins opens the directory and takes it for granted only if nobody else could have put anything there. The error is
// ErrNotUp if it is not there and not to be made.
func openPins(path string, create bool) (*pinDir, error) {
	if create {
		if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("loader: directory for pins: %w", err)
		}
	}
	file, err := openDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s", ErrNotUp, path)
	} else if err != nil {
		return nil, fmt.Errorf("loader: directory for pins: %w", err)
	}
	if err := checkPins(file); err != nil {
		file.Close()
		return nil, fmt.Errorf("loader: %s: %w", path, err)
	}
	return &pinDir{path, file}, nil
}

// openDir opens a directory, but not one that a symbolic link leads to.
func openDir(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
}

// lock keeps out other processes that want to change something, until the directory is closed.
func (d *pinDir) lock() error {
	if err := syscall.Flock(int(d.file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("loader: %s is in use by another process: %w", d.path, err)
	}
	// A Down may have removed it meanwhile, and another Up have made and locked a new one.
	own, err := d.file.Stat()
	if err != nil {
		return fmt.Errorf("loader: directory for pins: %w", err)
	}
	if now, err := os.Lstat(d.path); err != nil {
		return fmt.Errorf("loader: directory for pins: %w", err)
	} else if !os.SameFile(own, now) {
		return fmt.Errorf("loader: %s is in use by another process, which has made it anew", d.path)
	}
	return nil
}

func checkPins(file *os.File) error {
	if ok, err := isBPF(file); err != nil {
		return err
	} else if !ok {
		return errors.New("not in a BPF file system: mount -t bpf bpf /sys/fs/bpf")
	}
	var what syscall.Stat_t
	if err := syscall.Fstat(int(file.Fd()), &what); err != nil {
		return err
	}
	if int(what.Uid) != os.Geteuid() || what.Mode&0o777 != 0o700 {
		return fmt.Errorf("belongs to uid %d with mode %#o, want uid %d and mode 0700", what.Uid, what.Mode&0o777, os.Geteuid())
	}
	return nil
}

// isBPF reports whether the directory is in a BPF file system.
func isBPF(dir *os.File) (bool, error) {
	var where syscall.Statfs_t
	if err := syscall.Fstatfs(int(dir.Fd()), &where); err != nil {
		return false, err
	}
	return uint32(where.Type) == bpfMagic, nil
}

func (d *pinDir) Close() error { return d.file.Close() }

func (d *pinDir) name(name string) string { return filepath.Join(d.path, name) }

// pin pins what has no pin yet. What has the name already is let go of.
func (d *pinDir) pin(name string, object interface{ Pin(string) error }) error {
	if err := d.unpin(name); err != nil {
		return err
	}
	if err := object.Pin(d.name(name)); err != nil {
		return fmt.Errorf("loader: pin %s: %w", name, err)
	}
	if err := os.Chmod(d.name(name), 0o600); err != nil {
		return fmt.Errorf("loader: pin %s: %w", name, err)
	}
	return nil
}

func (d *pinDir) unpin(name string) error {
	if err := os.Remove(d.name(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("loader: unpin %s: %w", name, err)
	}
	return nil
}

// check refuses pins that others can open.
func (d *pinDir) check(name string) error {
	var what syscall.Stat_t
	if err := syscall.Lstat(d.name(name), &what); err != nil {
		return &fs.PathError{Op: "lstat", Path: d.name(name), Err: err}
	}
	if int(what.Uid) != os.Geteuid() || what.Mode&0o077 != 0 {
		return fmt.Errorf("loader: %s belongs to uid %d with mode %#o, want uid %d and mode 0600",
			d.name(name), what.Uid, what.Mode&0o777, os.Geteuid())
	}
	return nil
}

// loadMap returns a pinned map, or an error that is fs.ErrNotExist.
func (d *pinDir) loadMap(name string) (*ebpf.Map, error) {
	if err := d.check(name); err != nil {
		return nil, err
	}
	m, err := ebpf.LoadPinnedMap(d.name(name), nil)
	if err != nil {
		return nil, fmt.Errorf("loader: map %s: %w", name, err)
	}
	return m, nil
}

// loadLink returns a pinned link, or an error that is fs.ErrNotExist.
func (d *pinDir) loadLink(name string) (link.Link, error) {
	if err := d.check(name); err != nil {
		return nil, err
	}
	l, err := link.LoadPinnedLink(d.name(name), nil)
	if err != nil {
		return nil, fmt.Errorf("loader: link %s: %w", name, err)
	}
	return l, nil
}

// detach ends a pinned link at once: without its pin it would last until the kernel comes to it.
func (d *pinDir) detach(name string) error {
	l, err := d.loadLink(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer l.Close()
	if err := l.Detach(); err != nil {
		return fmt.Errorf("loader: detach %s: %w", name, err)
	}
	return d.unpin(name)
}

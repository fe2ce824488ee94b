package samehost

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Policy says which Unix sockets calls may use. The zero value allows none. It is read-only while it is in use.
//
// Where a socket is comes from a registry, so whoever can write to that could lead calls to any socket on the host. Hence a
// socket is used only if all of this is true: it lies below one of the Directories; no directory on the way there is a symbolic
// link, can be written to by others, or belongs to somebody who is not one of the Owners; the socket belongs to one of them and
// is the very one that the instance made; and the process that listens on it, which the kernel names, is one of theirs.
type Policy struct {
	// Directories are absolute paths. Sockets may be in them or deeper. What leads to them is not looked at, so it must be
	// trusted. Empty means that no sockets are used.
	Directories []string
	// Owners are the users that may own sockets and listen on them. nil means the effective user of the process, and root.
	Owners []uint32
}

// Enabled reports whether any socket may be used on this system.
func (p *Policy) Enabled() bool { return supported && len(p.Directories) > 0 }

// Validate returns an error that names every field with a mistake; nil where sockets are not supported, as paths may look otherwise
// there.
func (p Policy) Validate() error {
	if !supported {
		return nil
	}
	var errs []error
	for i, d := range p.Directories {
		switch {
		case !filepath.IsAbs(d):
			errs = append(errs, fmt.Errorf("directories[%d]: must be an absolute path, got %q", i, d))
		case filepath.Clean(d) == filepath.VolumeName(d)+string(filepath.Separator):
			errs = append(errs, fmt.Errorf("directories[%d]: must not be the root of all files", i))
		}
	}
	return errors.Join(errs...)
}

// Clone returns a copy that shares nothing.
func (p Policy) Clone() Policy {
	return Policy{Directories: slices.Clone(p.Directories), Owners: slices.Clone(p.Owners)}
}

// trusts reports whether a user may own sockets.
func (p *Policy) trusts(uid uint32) bool {
	if !named(uid) {
		return false
	}
	if p.Owners == nil {
		return uid == 0 || uid == uint32(os.Geteuid())
	}
	return slices.Contains(p.Owners, uid)
}

// check returns why the socket at a path must not be connected to, nil if it may.
func (p *Policy) check(a Address) error {
	if err := p.checkWay(a.Path); err != nil {
		return forbidden(err)
	}
	info, err := os.Lstat(a.Path)
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return forbidden(errors.New("it is not a socket"))
	}
	if uid := ownerOf(info); !p.trusts(uid) {
		return forbidden(fmt.Errorf("user %d, who owns it, is not one of the owners that sockets are taken from", uid))
	}
	if fileOf(info) != a.File {
		return &reasonError{ReasonReplaced, errors.New("it is not the one that the instance made")}
	}
	return nil
}

// forbidden makes an error one of the policy, unless it is that something is not there.
func forbidden(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return &reasonError{ReasonForbidden, err}
}

// checkWay returns why none of the directories leads safely to a path, nil if one does.
func (p *Policy) checkWay(path string) (err error) {
	for _, d := range p.Directories {
		dir, rest, ok := locate(path, filepath.Clean(d))
		if !ok {
			continue
		}
		refused := p.checkFrom(dir, rest)
		if refused == nil {
			return nil
		}
		if err == nil {
			err = refused
		}
	}
	if err == nil {
		err = errors.New("it is in none of the directories that sockets are taken from")
	}
	return err
}

// locate returns what a directory is behind links, and how a path goes on from there if it is below it. The path may have
// either name of the directory, as servers say what is behind links.
func locate(path, dir string) (resolved, rest string, ok bool) {
	resolved, err := filepath.EvalSymlinks(dir)
	if err != nil {
		resolved = dir
	}
	if rest, ok = below(path, dir); !ok {
		rest, ok = below(path, resolved)
	}
	return resolved, rest, ok
}

// checkFrom checks a directory and those that lead on from there to the rest of a path. None of them may be a symbolic link.
func (p *Policy) checkFrom(dir, rest string) error {
	for {
		if err := p.checkDirectory(dir); err != nil {
			return err
		}
		name, below, deeper := strings.Cut(rest, string(filepath.Separator))
		if !deeper {
			return nil
		}
		dir, rest = filepath.Join(dir, name), below
	}
}

func below(path, dir string) (rest string, ok bool) {
	return strings.CutPrefix(path, dir+string(filepath.Separator))
}

// checkDirectory returns why others than the owners could put sockets into a directory.
func (p *Policy) checkDirectory(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	switch uid := ownerOf(info); {
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", dir)
	case !p.trusts(uid):
		return fmt.Errorf("user %d, who owns %s, is not one of the owners that sockets are taken from", uid, dir)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("others can write to %s (mode %v)", dir, info.Mode().Perm())
	}
	return nil
}

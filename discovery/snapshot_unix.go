//go:build unix

package discovery

import (
	"errors"
	"os"
	"syscall"
)

// openOwn opens a regular file that belongs to the user of the process and that no other can write to. It does not wait for
// the other end of a pipe.
func openOwn(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		owner, ok := info.Sys().(*syscall.Stat_t)
		switch {
		case !info.Mode().IsRegular():
			err = errors.New("it is no regular file")
		case !ok || int(owner.Uid) != os.Geteuid():
			err = errors.New("it belongs to another user")
		case info.Mode().Perm()&0o022 != 0:
			err = errors.New("others may write to it")
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

//go:build !unix

package discovery

import (
	"errors"
	"os"
)

// openOwn opens a regular file.
func openOwn(path string) (*os.File, error) {
	if info, err := os.Lstat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, errors.New("it is no regular file")
	}
	return os.Open(path)
}

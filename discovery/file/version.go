package file

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// maxSize bounds a file: a hundred thousand endpoints with all fields fit.
const maxSize = 4 << 20

// version tells one state of a file from another. The zero value stands for a file that is not there.
type version struct {
	info os.FileInfo
	err  error // why there is no info, unless the file is not there
}

func versionOf(path string) version {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return version{}
	}
	return version{info, err}
}

func (v version) equal(other version) bool {
	if v.info == nil || other.info == nil {
		return v.info == nil && other.info == nil && fmt.Sprint(v.err) == fmt.Sprint(other.err)
	}
	return os.SameFile(v.info, other.info) && v.info.Size() == other.info.Size() &&
		v.info.ModTime().Equal(other.info.ModTime()) && v.info.Mode() == other.info.Mode()
}

// olderThan reports whether the file was last changed d ago or before, going by the clock of the machine, which may
// be another one than that of the file system: then the file has to be seen unchanged for that long.
func (v version) olderThan(d time.Duration, now time.Time) bool {
	return v.info != nil && now.Sub(v.info.ModTime()) >= d
}

// read returns what the file at path holds, or nil if it is no longer in the version v.
func read(path string, v version) *content {
	c := &content{version: v}
	data, err := contentOf(path, v)
	if !versionOf(path).equal(v) {
		return nil
	}
	if err == nil {
		c.services, err = parse(path, data)
	}
	if err != nil {
		c.err = fmt.Errorf("file: %w", err)
	}
	return c
}

func contentOf(path string, v version) ([]byte, error) {
	switch {
	case v.err != nil:
		return nil, v.err
	case v.info == nil:
		return nil, &os.PathError{Op: "open", Path: path, Err: os.ErrNotExist}
	case !v.info.Mode().IsRegular(): // opening a pipe would wait for a writer
		return nil, fmt.Errorf("%s is no regular file", path)
	case v.info.Size() > maxSize:
		return nil, fmt.Errorf("%s has %d bytes, more than %d", path, v.info.Size(), maxSize)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSize))
}

package filewatch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// MaxSize bounds a file: a hundred thousand endpoints with all fields fit.
const MaxSize = 4 << 20

// Version tells one state of a file from another. The zero value stands for a file that is not there.
type Version struct {
	info os.FileInfo
	err  error // why there is no info, unless the file is not there
}

// VersionOf returns the present version of the file at path.
func VersionOf(path string) Version {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return Version{}
	}
	return Version{info, err}
}

// Equal reports whether nothing tells v from other.
func (v Version) Equal(other Version) bool {
	if v.info == nil || other.info == nil {
		return v.info == nil && other.info == nil && fmt.Sprint(v.err) == fmt.Sprint(other.err)
	}
	return os.SameFile(v.info, other.info) && v.info.Size() == other.info.Size() &&
		v.info.ModTime().Equal(other.info.ModTime()) && v.info.Mode() == other.info.Mode()
}

// OlderThan reports whether the file was last changed d ago or before, going by the clock of the machine, which may
// be another one than that of the file system: then the file has to be seen unchanged for that long.
func (v Version) OlderThan(d time.Duration, now time.Time) bool {
	return v.info != nil && now.Sub(v.info.ModTime()) >= d
}

// Missing reports whether there is no file.
func (v Version) Missing() bool { return v.info == nil && v.err == nil }

// Read returns what the file at path holds, of which v is the version. It fails for what is no file or larger than MaxSize.
func (v Version) Read(path string) ([]byte, error) {
	switch {
	case v.err != nil:
		return nil, v.err
	case v.info == nil:
		return nil, &os.PathError{Op: "open", Path: path, Err: os.ErrNotExist}
	case !v.info.Mode().IsRegular(): // opening a pipe would wait for a writer
		return nil, fmt.Errorf("%s is no regular file", path)
	case v.info.Size() > MaxSize:
		return nil, fmt.Errorf("%s has %d bytes, more than %d", path, v.info.Size(), MaxSize)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, MaxSize))
}

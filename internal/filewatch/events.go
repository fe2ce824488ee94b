package filewatch

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fsnotify/fsnotify"
)

// maxLinks bounds the symbolic links on the way to a file, as operating systems do.
const maxLinks = 40

// Events tells that something happened in some folders. It is for one goroutine.
type Events struct {
	watcher *fsnotify.Watcher // nil where the system has none to give
}

// Listen returns events of no folder yet. Without any, as in tests, files are polled.
func Listen(deaf bool) *Events {
	e := new(Events)
	if !deaf {
		e.watcher, _ = fsnotify.NewWatcher() // nil if there are too many, for one
	}
	return e
}

// Happened returns a channel with an entry for each event, or nil.
func (e *Events) Happened() <-chan fsnotify.Event {
	if e.watcher == nil {
		return nil
	}
	return e.watcher.Events
}

// Lost returns a channel with an entry when events were lost, or nil.
func (e *Events) Lost() <-chan error {
	if e.watcher == nil {
		return nil
	}
	return e.watcher.Errors
}

// Watch makes events those of exactly the folders, and reports whether it could. It adds those again that are watched
// already: another folder may have their name by now.
func (e *Events) Watch(folders []string) bool {
	if e.watcher == nil {
		return false
	}
	for _, old := range e.watcher.WatchList() {
		if !slices.Contains(folders, old) {
			_ = e.watcher.Remove(old) // fails if it is gone by itself
		}
	}
	all := true
	for _, folder := range folders {
		all = e.watcher.Add(folder) == nil && all
	}
	return all
}

// Close ends the events.
func (e *Events) Close() {
	if e.watcher != nil {
		_ = e.watcher.Close()
	}
}

// Folders returns the folders whose entries decide what is at path: that of the path itself and, for each symbolic link
// on the way, that of the link and those on the way to its target.
func Folders(path string) []string {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil
	}
	separator := string(filepath.Separator)
	parts := func(p string) []string {
		p = strings.TrimPrefix(filepath.Clean(p), filepath.VolumeName(p))
		return strings.Split(strings.Trim(p, separator), separator)
	}
	var list []string
	at, rest, links := filepath.VolumeName(path)+separator, parts(path), 0
	for len(rest) > 0 {
		next := filepath.Join(at, rest[0])
		info, err := os.Lstat(next)
		link := err == nil && info.Mode()&os.ModeSymlink != 0
		if (err != nil || link || len(rest) == 1) && !slices.Contains(list, at) {
			list = append(list, at)
		}
		if err != nil { // what is missing may appear
			return list
		}
		rest = rest[1:]
		if !link {
			at = next
			continue
		}
		target, err := os.Readlink(next)
		if links++; err != nil || links > maxLinks {
			return list
		}
		if filepath.IsAbs(target) {
			at = filepath.VolumeName(target) + separator
		}
		rest = append(parts(target), rest...)
	}
	return list
}

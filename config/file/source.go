package file

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/zerohop/zerohop/internal/filewatch"
)

const (
	// settleTime is how long size and time of a file must stay the same before it is read. Ten times less would be
	// shorter than the pauses of a busy writer, ten times more would show in how soon a change applies.
	settleTime = 100 * time.Millisecond
	// gatherTime is the pause after the first of several events.
	gatherTime = 10 * time.Millisecond
	// pollTime is how often the file is looked at though no event came. It costs a handful of system calls.
	pollTime = 5 * time.Second
	// deafPollTime is the same where there are no events.
	deafPollTime = time.Second
)

// Source is a file that holds a document. It is a config.Source, and safe for concurrent use.
//
// It sees a change at once where the operating system tells, also one of a symbolic link on the way to the file, and within five
// seconds on file systems where it does not, such as network ones.
type Source struct {
	// Path is the file. Required.
	Path string

	deaf   bool          // takes no events, in tests
	settle time.Duration // instead of settleTime, in tests that change the file in one step
}

// Watch implements config.Source. A file that is missing for a tenth of a second is no document. Watch fails while the file cannot
// be read, is no regular file or is larger than 4 MiB.
func (s Source) Watch(ctx context.Context, update func(document []byte)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.Path == "" {
		return errors.New("file: Source.Path is empty")
	}
	events := filewatch.Listen(s.deaf)
	defer events.Close()
	w := watch{path: s.Path, events: events, settle: cmp.Or(s.settle, settleTime), update: update}
	timer := time.NewTimer(0)
	defer timer.Stop()
	due := time.Now() // when the timer fires
	for {
		var wait time.Duration
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-events.Happened():
			wait = gatherTime
		case <-events.Lost():
			wait = gatherTime
		case <-timer.C:
			if ctx.Err() != nil { // both were ready
				return ctx.Err()
			}
			var err error
			if wait, err = w.look(); err != nil {
				return fmt.Errorf("file: %w", err)
			}
			due = time.Time{}
		}
		if !due.IsZero() && time.Until(due) <= wait {
			continue // it fires soon enough
		}
		due = time.Now().Add(wait)
		timer.Reset(wait)
	}
}

// watch is the state of one Watch.
type watch struct {
	path   string
	events *filewatch.Events
	settle time.Duration
	update func(document []byte)

	// seen is the version that was seen last, and since when; read is the one that was read last, if known.
	seen  filewatch.Version
	since time.Time
	read  filewatch.Version
	known bool
}

// look looks at the file, reads it if it has settled on something new, and returns when to look again.
func (w *watch) look() (time.Duration, error) {
	// First the folders: what changes after this look makes an event.
	rest := pollTime
	if !w.events.Watch(filewatch.Folders(w.path)) {
		rest = deafPollTime
	}
	v, now := filewatch.VersionOf(w.path), time.Now()
	if w.since.IsZero() || !v.Equal(w.seen) {
		w.seen, w.since = v, now
	}
	if w.known && v.Equal(w.read) {
		return rest, nil
	}
	if now.Sub(w.since) < w.settle && !v.OlderThan(w.settle, now) {
		return w.settle - now.Sub(w.since), nil
	}
	var document []byte
	if !v.Missing() {
		var err error
		if document, err = v.Read(w.path); !filewatch.VersionOf(w.path).Equal(v) {
			return gatherTime, nil // it changed meanwhile
		} else if err != nil {
			return 0, err
		}
	}
	w.read, w.known = v, true
	w.update(document)
	return rest, nil
}

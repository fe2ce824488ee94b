package file

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/zerohop/zerohop/discovery"
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
	// restlessTime is how long a watch waits for a file that does not settle before it gives up.
	restlessTime = 10 * time.Second
)

// content is what one reading of the file brought: services or an error. It is never changed.
type content struct {
	version  filewatch.Version
	services map[string][]discovery.Endpoint
	err      error
}

// feed follows a file for all watches of a Resolver.
type feed struct {
	path    string
	watches int // guarded by Resolver.mu
	deaf    bool
	cancel  context.CancelFunc
	done    chan struct{} // closed when run has ended

	mu      sync.Mutex
	now     *content      // guarded by mu; nil before the first reading
	changed chan struct{} // guarded by mu; closed when now changes

	// These belong to run: the version that was seen last and since when, since when the file changes without a
	// pause, and what was read last, perhaps by the feed before this one.
	seen     filewatch.Version
	since    time.Time
	restless time.Time
	read     *content
}

func newFeed(path string, last *content, deaf bool) *feed {
	ctx, cancel := context.WithCancel(context.Background())
	f := &feed{path: path, deaf: deaf, read: last, cancel: cancel, done: make(chan struct{}), changed: make(chan struct{})}
	go f.run(ctx) // ended and awaited by close
	return f
}

// close ends the feed and waits for its end.
func (f *feed) close() {
	f.cancel()
	<-f.done
}

// state returns what was read last, or nil, and a channel that is closed when there is something new.
func (f *feed) state() (now *content, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now, f.changed
}

// settle waits a moment for news of a file that is not what was read last, so that a new watch does not begin with the
// past. It returns the error of ctx.
func (f *feed) settle(ctx context.Context) error {
	now, changed := f.state()
	if now == nil || now.version.Equal(filewatch.VersionOf(f.path)) {
		return ctx.Err()
	}
	timer := time.NewTimer(2 * settleTime)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err()
}

func (f *feed) publish(c *content) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.now != c {
		f.now = c
		close(f.changed)
		f.changed = make(chan struct{})
	}
}

// read returns what the file at path holds, or nil if it is no longer in the version v.
func read(path string, v filewatch.Version) *content {
	c := &content{version: v}
	data, err := v.Read(path)
	if !filewatch.VersionOf(path).Equal(v) {
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

func (f *feed) run(ctx context.Context) {
	defer close(f.done)
	events := filewatch.Listen(f.deaf)
	defer events.Close()
	f.since = time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	due := f.since // when the timer fires
	for {
		var wait time.Duration
		select {
		case <-ctx.Done():
			return
		case <-events.Happened():
			wait = gatherTime
		case <-events.Lost():
			wait = gatherTime
		case <-timer.C:
			wait = f.look(events)
			due = time.Time{}
		}
		if !due.IsZero() && time.Until(due) <= wait {
			continue // it fires soon enough
		}
		due = time.Now().Add(wait)
		timer.Reset(wait)
	}
}

// look looks at the file, reads it if it has settled on something new, and returns when to look again.
func (f *feed) look(events *filewatch.Events) time.Duration {
	// First the folders: what changes after this look makes an event.
	rest := pollTime
	if !events.Watch(filewatch.Folders(f.path)) {
		rest = deafPollTime
	}
	v, now := filewatch.VersionOf(f.path), time.Now()
	if !v.Equal(f.seen) {
		f.seen, f.since = v, now
	}
	switch {
	case f.read != nil && f.read.version.Equal(v):
		f.restless = time.Time{}
		f.publish(f.read)
		return rest
	case now.Sub(f.since) < settleTime && !v.OlderThan(settleTime, now):
	default:
		if c := read(f.path, v); c != nil {
			f.read, f.restless = c, time.Time{}
			f.publish(c)
			return rest
		}
	}
	if f.restless.IsZero() {
		f.restless = now
	}
	if now.Sub(f.restless) >= restlessTime {
		f.restless = now
		if c, _ := f.state(); c == nil { // else the last content stays
			f.publish(&content{err: fmt.Errorf("file: %s has kept changing for %v", f.path, restlessTime)})
		}
	}
	return max(settleTime-now.Sub(f.since), gatherTime)
}

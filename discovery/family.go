package discovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// patience is how long the first set waits for sources that have neither answered nor failed while another has. Ten times
// less would send the first calls to the wrong place whenever a source is a little slower than another; ten times
// more would let one that hangs delay all calls.
const patience = time.Second

// supervisorKey is the key of the supervisor of a watch in its context.
type supervisorKey struct{}

// family is the sources of one watch of a combinator. Each of them is run, so that it keeps its last good set while it fails and
// comes back by itself. If the watch is itself supervised by Run, it goes on as long as that: what each source knows would be
// lost with it. Run is told of failures, and leaves the guards to those of the sources. Otherwise the watch ends when no
// source can be heard, as that of any Resolver does.
type family struct {
	service string
	parent  *supervisor // nil if nobody supervises
	combine combineFunc
	update  func([]Endpoint)
	failed  chan error // of one

	mu      sync.Mutex // guards what follows; taken after that of the supervisor of a source, before that of parent
	members []member
	told    bool // there was a set
	ended   bool
	first   time.Time // when the first source answered or failed
	timer   *time.Timer
}

// member is what is known of one source.
type member struct {
	set   []Endpoint
	known bool      // it has answered
	err   error     // why it is not heard, nil if it is or has only not answered yet
	lost  time.Time // when it was last heard, zero while it is
}

// combineFunc makes one set of those of the sources. again is when to ask it anew though nothing has changed, 0 for never. It
// returns false if there is no set yet.
type combineFunc func(now time.Time, members []member) (set []Endpoint, again time.Duration, ok bool)

// watchFamily is the Watch of a combinator.
func watchFamily(ctx context.Context, name string, sources []Resolver, service string, combine combineFunc, update func([]Endpoint)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(sources) == 0 {
		return fmt.Errorf("discovery: %s has no source", name)
	}
	for i, r := range sources {
		if r == nil {
			return fmt.Errorf("discovery: source %d of %s is nil", i, name)
		}
	}
	f := &family{service: service, combine: combine, update: update, failed: make(chan error, 1), members: make([]member, len(sources))}
	f.parent, _ = ctx.Value(supervisorKey{}).(*supervisor)
	opts := RunOptions{EmptyGrace: -1}
	if f.parent != nil {
		opts = f.parent.delegate()
	}
	inner, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	for i, r := range sources {
		o := opts
		o.Observe = func(e Event) { f.observe(i, e) }
		running.Go(func() { // until inner ends
			_ = run(inner, r, service, o, f.parent == nil, func(set []Endpoint) { f.heard(i, set) })
		})
	}
	var err error
	select {
	case <-ctx.Done():
		err = ctx.Err()
	case err = <-f.failed:
	}
	cancel()
	f.end()
	running.Wait()
	return err
}

// heard takes the set of a source.
func (f *family) heard(i int, set []Endpoint) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.members[i] = member{set: set, known: true}
	f.tell()
}

// observe takes what happens to a source.
func (f *family) observe(i int, e Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return
	}
	m := &f.members[i]
	m.lost = e.Lost
	switch e.Kind {
	case EventWatchFailed, EventAnswerRejected:
		m.err = e.Err
		f.tell()
		f.report(e)
	case EventConfirmed:
		m.err, m.lost = nil, time.Time{}
		f.tell()
	case EventEmptyHeld, EventRemovalHeld:
		m.err = nil
		f.report(e)
	case EventEndpointsDropped:
		f.report(e)
	}
}

// report passes on what happened to a source. That one fails is no news while others may still give the first set: callers
// wait for them. f.mu is held.
func (f *family) report(e Event) {
	failure := e.Kind == EventWatchFailed || e.Kind == EventAnswerRejected
	if !failure {
		if f.parent != nil {
			f.parent.pass(e, false)
		}
		return
	}
	if !f.told && f.waiting(time.Now()) > 0 {
		return
	}
	var unknown, broken []error
	for i := range f.members {
		switch err := f.members[i].err; {
		case errors.Is(err, ErrUnknownService):
			unknown = append(unknown, err)
		case err != nil:
			broken = append(broken, err)
		}
	}
	all := len(unknown)+len(broken) == len(f.members)
	if all {
		why := broken // none is sure while one is broken
		if len(why) == 0 {
			why = unknown
		}
		if e.Err = why[0]; len(why) > 1 {
			e.Err = errors.Join(why...)
		}
	}
	if f.parent != nil {
		f.parent.pass(e, len(broken) == len(f.members))
	} else if all || !f.told {
		f.fail(e.Err)
	}
}

// fail ends the watch.
func (f *family) fail(err error) {
	select {
	case f.failed <- err:
	default:
	}
}

// waiting returns how long the first set is to wait for sources that have neither answered nor failed. f.mu is held.
func (f *family) waiting(now time.Time) time.Duration {
	for i := range f.members {
		if m := &f.members[i]; !m.known && m.err == nil {
			return max(f.first.Add(patience).Sub(now), 0)
		}
	}
	return 0
}

// tell passes on the set, if there is one. f.mu is held.
func (f *family) tell() {
	if f.ended {
		return
	}
	if f.timer != nil {
		f.timer.Stop()
		f.timer = nil
	}
	now := time.Now()
	if f.first.IsZero() {
		f.first = now
	}
	set, again, ok := f.combine(now, f.members)
	if !f.told {
		if len(set) == 0 && slices.ContainsFunc(f.members, func(m member) bool { return !m.known }) {
			ok = false // the others may have some
		}
		if wait := f.waiting(now); wait > 0 {
			ok, again = false, wait
		}
	}
	if again > 0 {
		f.timer = time.AfterFunc(again, f.retell)
	}
	if ok {
		f.told = true
		f.update(slices.Clone(set)) // it may be what a source is remembered by
	}
}

// retell runs in the goroutine of a timer, which a panic of update must not end the program from.
func (f *family) retell() {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() {
		if v := recover(); v != nil {
			f.fail(fmt.Errorf("discovery: watch of %q panicked: %v", f.service, v))
		}
	}()
	f.tell()
}

func (f *family) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	if f.timer != nil {
		f.timer.Stop()
	}
}

// anyRemote reports whether one of the sources is remote.
func anyRemote(sources ...Resolver) bool {
	for _, r := range sources {
		if IsRemote(r) {
			return true
		}
	}
	return false
}

// firstZone asks the sources for the zone of the process, one after the other, until one knows it.
func firstZone(ctx context.Context, sources ...Resolver) (string, error) {
	var errs []error
	for _, r := range sources {
		z, ok := r.(ZoneSource)
		if !ok {
			continue
		}
		zone, err := z.Zone(ctx)
		if err == nil && zone != "" {
			return zone, nil
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

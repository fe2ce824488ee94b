package discovery

import "time"

// updateEvery is the least time between two updates: an endpoint that comes and goes a hundred times a second changes the
// set ten times. It is also how long a change waits at most. Ten times more, and endpoints that left would get
// requests for a second; ten times less, and callers with many endpoints would be busy with little else.
const updateEvery = 100 * time.Millisecond

// flap bounds how often a set changes. A change that comes too soon is put off; by then another may have undone it.
type flap struct {
	last  time.Time // when the set was changed
	timer *time.Timer
}

// delay returns how long a change must wait.
func (f *flap) delay(now time.Time) time.Duration {
	if f.last.IsZero() {
		return 0
	}
	return updateEvery - now.Sub(f.last)
}

// postpone lets again be called after d, unless it is to be called already.
func (f *flap) postpone(d time.Duration, again func()) {
	if f.timer == nil {
		f.timer = time.AfterFunc(d, again)
	}
}

// cancel ends what was postponed.
func (f *flap) cancel() {
	if f.timer != nil {
		f.timer.Stop()
		f.timer = nil
	}
}

package zerohop

import (
	"sync"
	"sync/atomic"
	"time"
)

// watchdog tells calls that an attempt of theirs has run long enough for a backup. A timer for each call would
// cost more than everything else on the path of a call that succeeds; here a call costs two links in a list,
// and one timer serves them all. It fires when the earliest attempt in the lists is due, which is rarely more often
// than every 50 ms.
type watchdog struct {
	base  time.Time // what times in here count from
	lists [watchLists]watchList
	next  atomic.Int64 // when the timer fires, 0 if it is not running

	mu    sync.Mutex // guards what follows, and writes of next
	timer *time.Timer
	ended bool
}

// watchLists is how many lists there are, so that calls on other processors seldom wait for the lock of one.
const watchLists = 8

// watchList is a list of calls, on two cache lines of its own.
type watchList struct {
	mu   sync.Mutex // guards head and the places linked to it
	head *Call
	_    [112]byte
}

// watched is the place of a call in its list.
type watched struct {
	prev, next *Call
	due        time.Duration
}

// list returns the list for a call. The nanosecond in which it began is as good as a random number for that.
func (w *watchdog) list(c *Call) *watchList { return &w.lists[uint32(c.start)*0x9e3779b9>>29] }

// watch lists the call under a due time, or moves it there.
func (w *watchdog) watch(c *Call, due time.Duration) {
	l := w.list(c)
	l.mu.Lock()
	if c.place.due = due; !c.listed.Load() {
		c.listed.Store(true)
		if c.place.next = l.head; l.head != nil {
			l.head.place.prev = c
		}
		l.head = c
	}
	l.mu.Unlock()
	// fire clears next before it goes through the lists: either it finds the call, or the call what it left.
	if next := w.next.Load(); next == 0 || int64(due) < next {
		w.arm(due)
	}
}

// arm makes sure that the timer fires at the given time or before.
func (w *watchdog) arm(at time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if next := w.next.Load(); w.ended || next != 0 && int64(at) >= next {
		return
	}
	w.next.Store(int64(max(at, 1)))
	if d := at - time.Since(w.base); w.timer == nil {
		w.timer = time.AfterFunc(d, w.fire)
	} else {
		w.timer.Reset(d)
	}
}

// forget takes the call off its list.
func (w *watchdog) forget(c *Call) {
	if c.listed.Load() { // else there is no need of the lock
		l := w.list(c)
		l.mu.Lock()
		l.unlink(c)
		l.mu.Unlock()
	}
}

// unlink takes a call out of the list, if it is there. l.mu is held.
func (l *watchList) unlink(c *Call) {
	if !c.listed.Load() {
		return
	}
	if p := &c.place; p.prev == nil {
		l.head = p.next
	} else {
		p.prev.place.next = p.next
	}
	if next := c.place.next; next != nil {
		next.place.prev = c.place.prev
	}
	c.place.prev, c.place.next = nil, nil
	c.listed.Store(false)
}

func (w *watchdog) fire() {
	at := time.Since(w.base)
	w.mu.Lock()
	w.next.Store(0)
	w.mu.Unlock()
	var due []*Call
	var earliest time.Duration
	for i := range w.lists {
		l := &w.lists[i]
		l.mu.Lock()
		for c := l.head; c != nil; {
			following := c.place.next
			if d := c.place.due; d <= at {
				due = append(due, c)
				l.unlink(c)
			} else if earliest == 0 || d < earliest {
				earliest = d
			}
			c = following
		}
		l.mu.Unlock()
	}
	if earliest > 0 {
		w.arm(earliest)
	}
	for _, c := range due {
		c.tick(at)
	}
}

// stop ends the watch.
func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	if w.timer != nil {
		w.timer.Stop()
	}
}

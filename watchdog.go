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

// watchList is a ring of calls, on two cache lines of its own.
type watchList struct {
	mu   sync.Mutex // guards head and the places linked to it
	head watched
	_    [72]byte
}

// watched is the place of a call in a list.
type watched struct {
	call       *Call
	prev, next *watched
	due        time.Duration
	listed     atomic.Bool // so that a call that is not on the list is forgotten without the lock
	list       uint8
}

// place gives the call, which begins now, its place. The nanoseconds are as good as a random number for that.
func (w *watchdog) place(c *Call, now time.Time) {
	c.listed.call, c.listed.list = c, uint8(uint32(now.Nanosecond())*0x9e3779b9>>29)
}

// watch lists the call under a due time, or moves it there.
func (w *watchdog) watch(e *watched, due time.Duration) {
	l := &w.lists[e.list]
	l.mu.Lock()
	if l.head.next == nil {
		l.head.next, l.head.prev = &l.head, &l.head
	}
	if e.due = due; e.next == nil {
		e.listed.Store(true)
		e.prev, e.next = l.head.prev, &l.head
		e.prev.next, e.next.prev = e, e
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
func (w *watchdog) forget(e *watched) {
	if e.listed.Load() {
		l := &w.lists[e.list]
		l.mu.Lock()
		e.unlink()
		l.mu.Unlock()
	}
}

// unlink takes the place out of its list, whose lock is held.
func (e *watched) unlink() {
	if e.next != nil {
		e.prev.next, e.next.prev = e.next, e.prev
		e.prev, e.next = nil, nil
		e.listed.Store(false)
	}
}

func (w *watchdog) fire() {
	now := time.Now()
	at := now.Sub(w.base)
	w.mu.Lock()
	w.next.Store(0)
	w.mu.Unlock()
	var due []*Call
	var earliest time.Duration
	for i := range w.lists {
		l := &w.lists[i]
		l.mu.Lock()
		for e := l.head.next; e != &l.head && e != nil; {
			following := e.next
			if e.due <= at {
				due = append(due, e.call)
				e.unlink()
			} else if earliest == 0 || e.due < earliest {
				earliest = e.due
			}
			e = following
		}
		l.mu.Unlock()
	}
	if earliest > 0 {
		w.arm(earliest)
	}
	for _, c := range due {
		c.tick(now)
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

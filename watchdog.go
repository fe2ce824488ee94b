package zerohop

import (
	"sync"
	"sync/atomic"
	"time"
)

// watchdog tells calls that an attempt of theirs has run long enough for a backup. A timer for each call would
// cost more than everything else on the path of a call that succeeds; here a call costs two links in a list,
// and one timer serves them all. It fires when the earliest attempt in the list is due, which is rarely more often
// than every 50 ms.
type watchdog struct {
	mu    sync.Mutex // guards what follows
	head  watched    // of a ring; its call is nil
	timer *time.Timer
	next  time.Time // when the timer fires; zero if it is not running
	ended bool
}

// watched is the place of a call in the list.
type watched struct {
	prev, next *watched
	call       *Call
	due        time.Time
	listed     atomic.Bool // so that a call that is not on the list is forgotten without the lock
}

// watch lists the call under a due time, or moves it there.
func (w *watchdog) watch(e *watched, due time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	if w.head.next == nil {
		w.head.next, w.head.prev = &w.head, &w.head
	}
	e.due = due
	if e.next == nil {
		e.listed.Store(true)
		e.prev, e.next = w.head.prev, &w.head
		e.prev.next, e.next.prev = e, e
	}
	w.arm(due)
}

// arm makes sure that the timer fires at the given time or before. w.mu is held.
func (w *watchdog) arm(due time.Time) {
	if !w.next.IsZero() && !due.Before(w.next) {
		return
	}
	w.next = due
	if d := time.Until(due); w.timer == nil {
		w.timer = time.AfterFunc(d, w.fire)
	} else {
		w.timer.Reset(d)
	}
}

// forget takes the call off the list.
func (w *watchdog) forget(e *watched) {
	if !e.listed.Load() {
		return
	}
	w.mu.Lock()
	w.unlink(e)
	w.mu.Unlock()
}

func (w *watchdog) unlink(e *watched) {
	if e.next != nil {
		e.prev.next, e.next.prev = e.next, e.prev
		e.prev, e.next = nil, nil
		e.listed.Store(false)
	}
}

func (w *watchdog) fire() {
	now := time.Now()
	var due []*Call
	w.mu.Lock()
	w.next = time.Time{}
	var earliest time.Time
	for e := w.head.next; e != &w.head && e != nil; {
		following := e.next
		if !now.Before(e.due) {
			due = append(due, e.call)
			w.unlink(e)
		} else if earliest.IsZero() || e.due.Before(earliest) {
			earliest = e.due
		}
		e = following
	}
	if !earliest.IsZero() && !w.ended {
		w.arm(earliest)
	}
	w.mu.Unlock()
	for _, c := range due {
		c.tick(now)
	}
}

func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	if w.timer != nil {
		w.timer.Stop()
	}
}

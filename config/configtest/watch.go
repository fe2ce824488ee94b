package configtest

import (
	"context"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// queue is how many documents a watch may deliver beyond what a check has read. More is a flood.
const queue = 1024

// absent stands for no document.
const absent = "(none)"

// watch is one running call of Watch.
type watch struct {
	t         testing.TB
	timeout   time.Duration
	documents chan string
	done      chan error
	cancel    context.CancelFunc

	updating, returned atomic.Bool
	fault              atomic.Pointer[string] // the first breach of the contract
}

// start calls Watch in the background. The watch ends with the check, at the latest.
func (c *check) start(ctx context.Context) *watch {
	ctx, cancel := context.WithCancel(ctx)
	w := &watch{t: c.t, timeout: c.src.Timeout, documents: make(chan string, queue), done: make(chan error, 1), cancel: cancel}
	go func() { // ended and awaited by runCheck
		err := c.src.Source.Watch(ctx, w.update)
		w.returned.Store(true)
		w.done <- err
	}()
	c.watches = append(c.watches, w)
	return w
}

func (w *watch) update(document []byte) {
	if !w.updating.CompareAndSwap(false, true) {
		w.blame("two calls of update at the same time")
	}
	defer w.updating.Store(false)
	runtime.Gosched() // invites another call, if the source makes one
	if w.returned.Load() {
		w.blame("update was called after Watch returned")
	}
	text := absent
	if document != nil {
		text = string(document)
	}
	select {
	case w.documents <- text:
	default:
		w.blame("a flood of updates")
	}
	clear(document) // the slice is ours: a source that keeps using it breaks itself
}

func (w *watch) blame(fault string) { w.fault.CompareAndSwap(nil, &fault) }

// next returns the next document.
func (w *watch) next() string {
	w.t.Helper()
	select {
	case document := <-w.documents:
		return document
	case err := <-w.done:
		w.done <- err
		select {
		case document := <-w.documents:
			return document
		default:
			w.t.Fatalf("Watch ended with %v, want another document", err)
		}
	case <-time.After(w.timeout):
		w.t.Fatalf("no document within %v", w.timeout)
	}
	return ""
}

// until reads documents until one is want. Those before must be among possible.
func (w *watch) until(want string, possible ...string) {
	w.t.Helper()
	for {
		got := w.next()
		if got == want {
			return
		}
		if !slices.Contains(possible, got) {
			w.t.Fatalf("document %s was never there at that time, want %s", short(got), short(want))
		}
	}
}

// end waits until Watch returns and gives its error.
func (w *watch) end(within time.Duration) error {
	w.t.Helper()
	select {
	case err := <-w.done:
		w.done <- err
		if err == nil {
			w.t.Fatal("Watch returned nil, want an error")
		}
		return err
	case <-time.After(within):
		w.t.Fatalf("Watch did not return within %v", within)
		return nil
	}
}

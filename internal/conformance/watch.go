// Package conformance runs the watches of the conformance suites for resolvers and for sources of configuration, and finds breaches of
// what both promise of Watch.
package conformance

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// Config says how the news of a watch are read. All fields are required.
type Config[T any] struct {
	// Noun is what news are called in failures.
	Noun string
	// Queue is how many news a watch may deliver beyond what a check has read. More is a flood.
	Queue int
	// Timeout bounds the wait for news, and for the end of a watch.
	Timeout time.Duration
	// Text is what checks see of news.
	Text func(T) string
	// Clear destroys news that were read: they are the suite's, and a source that keeps using them breaks itself.
	Clear func(T)
}

// Watch is one running call of Watch.
type Watch[T any] struct {
	Config[T]
	// News are those that no check has read.
	News chan string
	// Done has the error of Watch when that has returned; who reads it puts it back.
	Done chan error
	// Cancel ends the context of the call.
	Cancel context.CancelFunc

	t                  testing.TB
	updating, returned atomic.Bool
	fault              atomic.Pointer[string] // the first breach of the contract
}

func (w *Watch[T]) update(v T) {
	if !w.updating.CompareAndSwap(false, true) {
		w.blame("two calls of update at the same time")
	}
	defer w.updating.Store(false)
	runtime.Gosched() // invites another call, if the source makes one
	if w.returned.Load() {
		w.blame("update was called after Watch returned")
	}
	select {
	case w.News <- w.Text(v):
	default:
		w.blame("a flood of updates")
	}
	w.Clear(v)
}

func (w *Watch[T]) blame(fault string) { w.fault.CompareAndSwap(nil, &fault) }

// Next returns the next news.
func (w *Watch[T]) Next() string {
	w.t.Helper()
	select {
	case news := <-w.News:
		return news
	case err := <-w.Done:
		w.Done <- err
		select {
		case news := <-w.News:
			return news
		default:
			w.t.Fatalf("Watch ended with %v, want another %s", err, w.Noun)
		}
	case <-time.After(w.Timeout):
		w.t.Fatalf("no %s within %v", w.Noun, w.Timeout)
	}
	return ""
}

// End waits until Watch returns and gives its error.
func (w *Watch[T]) End(within time.Duration) error {
	w.t.Helper()
	select {
	case err := <-w.Done:
		w.Done <- err
		if err == nil {
			w.t.Fatal("Watch returned nil, want an error")
		}
		return err
	case <-time.After(within):
		w.t.Fatalf("Watch did not return within %v", within)
		return nil
	}
}

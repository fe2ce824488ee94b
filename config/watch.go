package config

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/zerohop/zerohop/discovery"
)

const (
	// firstWait is the window of the first wait between watches. Ten times less would bring all processes back within the time
	// a store needs to accept a connection, ten times more would show in recovery.
	firstWait = 200 * time.Millisecond
	// lastWait is the largest window. A configuration may be old for a while: nothing fails of it, and a store that is
	// in trouble is asked little.
	lastWait = 15 * time.Second
	// steady is how long a watch must last for the next wait to be from the first window again. A watch that always breaks
	// after that asks its store once a second.
	steady = time.Second
	// longestAfter limits what a source may ask us to wait.
	longestAfter = time.Minute
	// pace is the least time between two documents that are read. To read the largest takes a fraction of a second.
	pace = 100 * time.Millisecond
)

// supervisor watches a source again whenever a watch ends.
type supervisor struct {
	source Source
	rand   func() uint64
	// accept is called with each document, or with nil for none, and failed after each watch that ended. Neither is called
	// while the other is.
	accept func(document []byte)
	failed func(err error, wait time.Duration)

	window *backoff.ExponentialBackOff // nil while watches last
	last   time.Time                   // when the last document was accepted
}

// run watches until ctx ends and returns its error.
func (s *supervisor) run(ctx context.Context) error {
	if s.rand == nil {
		s.rand = rand.Uint64
	}
	for ctx.Err() == nil {
		began := time.Now()
		err := s.watch(ctx)
		if ctx.Err() != nil {
			break
		}
		wait := s.wait(err, time.Since(began))
		s.failed(err, wait)
		sleep(ctx, wait)
	}
	return ctx.Err()
}

// watch runs one watch and accepts what it brings: the first document at once, and after that the newest one whenever pace
// allows. It returns why the watch ended.
func (s *supervisor) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var box mailbox
	box.news = make(chan struct{}, 1)
	done := make(chan error, 1)
	defer func() { // accept may panic
		cancel()
		<-done
	}()
	go func() { // ended and awaited above
		defer close(done)
		done <- watchOnce(ctx, s.source, box.put)
	}()
	for {
		select {
		case err := <-done:
			s.take(ctx, &box)
			return err
		case <-box.news:
			s.take(ctx, &box)
		}
	}
}

// take accepts the newest document, if there is one, as soon as pace allows.
func (s *supervisor) take(ctx context.Context, box *mailbox) {
	if !box.pending() {
		return
	}
	sleep(ctx, time.Until(s.last.Add(pace)))
	if document, ok := box.take(); ok && ctx.Err() == nil {
		s.accept(document)
		s.last = time.Now()
	}
}

// watchOnce calls Watch. A panic of the source is an error, as it is code that somebody else may have written.
func watchOnce(ctx context.Context, source Source, update func([]byte)) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("config: the source panicked: %v", v)
		}
	}()
	if err := source.Watch(ctx, update); err != nil {
		return err
	}
	return errors.New("config: the watch ended without an error")
}

// wait returns the time until the next watch: exponential with full jitter
// (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), because the processes of a store lose it at
// the same moment and must not come back at the same moment.
func (s *supervisor) wait(err error, lasted time.Duration) time.Duration {
	if s.window == nil || lasted >= steady {
		s.window = &backoff.ExponentialBackOff{InitialInterval: firstWait, Multiplier: 2, MaxInterval: lastWait, Clock: backoff.SystemClock}
		s.window.Reset()
	}
	hi, _ := bits.Mul64(s.rand(), uint64(s.window.NextBackOff()))
	wait := time.Duration(hi) + 1
	if refused, ok := errors.AsType[*discovery.RefusedError](err); ok {
		// Added, not the larger of both: else all who were told the same time come back at that time.
		wait += min(max(refused.After, 0), longestAfter)
	}
	return wait
}

// mailbox holds the newest document that nobody has taken.
type mailbox struct {
	news chan struct{} // has an entry if there is a document

	mu       sync.Mutex
	document []byte // guarded by mu
	full     bool   // guarded by mu
}

func (b *mailbox) put(document []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.document, b.full = document, true
	select {
	case b.news <- struct{}{}:
	default:
	}
}

func (b *mailbox) pending() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.full
}

func (b *mailbox) take() (document []byte, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	document, ok = b.document, b.full
	b.document, b.full = nil, false
	return document, ok
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

package config

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
)

type watchFunc func(ctx context.Context, update func([]byte)) error

func (f watchFunc) Watch(ctx context.Context, update func([]byte)) error { return f(ctx, update) }

var errDown = errors.New("connection refused")

// supervise runs a supervisor for d and returns the waits and the documents with their times.
func supervise(t *testing.T, d time.Duration, rand uint64, source watchFunc) (waits []time.Duration, errs []error, documents []string) {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	begin := time.Now()
	s := supervisor{
		source: source, rand: func() uint64 { return rand },
		accept: func(document []byte) {
			documents = append(documents, fmt.Sprintf("%v %s", time.Since(begin), document))
		},
		failed: func(err error, wait time.Duration) { errs, waits = append(errs, err), append(waits, wait) },
	}
	if err := s.run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("run() = %v, want %v", err, context.DeadlineExceeded)
	}
	return waits, errs, documents
}

func TestWatchesAreBegunAgainWithinGrowingWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = ^uint64(0)
		waits, errs, _ := supervise(t, time.Minute, most, func(context.Context, func([]byte)) error { return errDown })
		want := []time.Duration{200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, 1600 * time.Millisecond, 3200 * time.Millisecond,
			6400 * time.Millisecond, 12800 * time.Millisecond, 15 * time.Second, 15 * time.Second, 15 * time.Second}
		if fmt.Sprint(waits) != fmt.Sprint(want) || !errors.Is(errs[0], errDown) {
			t.Errorf("waits = %v, want %v; %v", waits, want, errs[0])
		}
	})
	synctest.Test(t, func(t *testing.T) { // full jitter
		waits, _, _ := supervise(t, time.Minute, 1<<62, func(context.Context, func([]byte)) error { return errDown })
		if got, want := waits[1], 100*time.Millisecond+1; got != want {
			t.Errorf("second wait = %v, want %v", got, want)
		}
	})
	synctest.Test(t, func(t *testing.T) { // a watch that lasts, and one that was refused
		n := 0
		waits, _, _ := supervise(t, time.Minute, ^uint64(0), func(ctx context.Context, _ func([]byte)) error {
			if n++; n == 4 {
				sleep(ctx, 2*time.Second)
			}
			if n == 5 {
				return &discovery.RefusedError{After: 10 * time.Second, Err: errDown}
			}
			if n > 5 {
				sleep(ctx, time.Hour)
			}
			return errDown
		})
		want := []time.Duration{200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, 200 * time.Millisecond, 10*time.Second + 400*time.Millisecond}
		if fmt.Sprint(waits) != fmt.Sprint(want) {
			t.Errorf("waits = %v, want %v", waits, want)
		}
	})
}

func TestDocumentsArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, documents := supervise(t, time.Second, 0, func(ctx context.Context, update func([]byte)) error {
			for i := range 40 { // a burst within 195 ms, and then rest
				update(fmt.Append(nil, i))
				sleep(ctx, 5*time.Millisecond)
			}
			<-ctx.Done()
			return ctx.Err()
		})
		if got, want := fmt.Sprint(documents), "[0s 0 100ms 20 200ms 39]"; got != want && got != "[0s 0 100ms 19 200ms 39]" {
			t.Errorf("documents = %s, want %s", got, want)
		}
	})
	synctest.Test(t, func(t *testing.T) { // a source that breaks with each document
		n := 0
		_, _, documents := supervise(t, time.Minute, 0, func(_ context.Context, update func([]byte)) error {
			n++
			update(fmt.Append(nil, n))
			return errDown
		})
		if got := len(documents); got < 500 || got > 601 {
			t.Errorf("%d documents of a flapping source in a minute, want ten a second", got)
		}
	})
}

func TestWatchesThatPanicAreErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		_, errs, documents := supervise(t, time.Second, 1<<63, func(ctx context.Context, update func([]byte)) error {
			switch n++; n {
			case 1:
				update([]byte("a"))
				panic("oops")
			case 2:
				return nil
			}
			update(nil)
			<-ctx.Done()
			return ctx.Err()
		})
		if got, want := fmt.Sprint(errs), "[config: the source panicked: oops config: the watch ended without an error]"; got != want {
			t.Errorf("errors = %s, want %s", got, want)
		}
		if len(documents) != 2 {
			t.Errorf("documents = %q, want a and none", documents)
		}
	})
}

package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestOpenLoopDoesNotWaitForAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now().Add(time.Second)
		var late []time.Duration
		openLoop(t.Context(), start, start.Add(50*time.Millisecond), 100, func(due time.Time) {
			late = append(late, time.Since(due))
			if len(late) == 2 {
				time.Sleep(25 * time.Millisecond) // the caller itself was held up
			}
		})
		want := []time.Duration{0, 0, 15 * time.Millisecond, 5 * time.Millisecond, 0}
		if len(late) != len(want) {
			t.Fatalf("%d calls, want %d", len(late), len(want))
		}
		for i := range want {
			if late[i] != want[i] {
				t.Errorf("call %d was %v late, want %v", i, late[i], want[i])
			}
		}
	})
}

func TestOpenLoopEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	openLoop(ctx, time.Now(), time.Now().Add(time.Hour), 1000, func(time.Time) { cancel() })
}

func TestRunCountsLateAnswersAsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r results
		good := func(context.Context, string) error { return nil }
		hung := func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }
		start := time.Now()
		r.run(t.Context(), 2, [columns]call{good, hung, good, good}, start, start.Add(100*time.Millisecond))
		all := r.stats()
		if got := all[0]; got.calls != 15 || got.begun != 15 || got.failed != 0 {
			t.Errorf("client that is answered: %+v, want 15 calls, none lost", got)
		}
		if got := all[1]; got.calls != 15 || got.failed != 15 || !errors.Is(got.failure, context.DeadlineExceeded) {
			t.Errorf("client that is not answered: %+v, want 15 calls, all lost by their deadline", got)
		}
	})
}

func TestPercentileIsTheNearestRank(t *testing.T) {
	sorted := make([]time.Duration, 200)
	for i := range sorted {
		sorted[i] = time.Duration(i + 1)
	}
	for _, c := range []struct {
		n, p int
		want time.Duration
	}{
		{0, 99, 0}, {1, 50, 1}, {1, 99, 1}, {2, 50, 1}, {2, 99, 2}, {3, 50, 2},
		{100, 50, 50}, {100, 99, 99}, {101, 99, 100}, {200, 99, 198}, {200, 100, 200}, {200, 0, 1},
	} {
		if got := percentile(sorted[:c.n], c.p); got != c.want {
			t.Errorf("percentile(1..%d, %d) = %d, want %d", c.n, c.p, got, c.want)
		}
	}
}

func TestUntagReadsWhatTagWrites(t *testing.T) {
	phase, column, err := untag(tag(3, 2))
	if phase != 3 || column != 2 || err != nil {
		t.Errorf("untag(tag(3, 2)) = %d, %d, %v", phase, column, err)
	}
	if _, _, err := untag("hello"); err == nil {
		t.Error(`untag("hello") = nil, want an error`)
	}
}

package discovery

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// toggling lists ten endpoints, and one that comes or goes each time.
func toggling(times int, each time.Duration) resolverFunc {
	return func(ctx context.Context, update func([]Endpoint)) error {
		for i := range times {
			update(hosts(i%2, 10))
			time.Sleep(each)
		}
		<-ctx.Done()
		return ctx.Err()
	}
}

func TestRunBoundsHowOftenTheSetChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var at []time.Duration
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		last := ""
		_ = Run(ctx, toggling(901, 10*time.Millisecond+1), "orders", RunOptions{}, func(set []Endpoint) {
			at = append(at, time.Since(start))
			last = addrs(set)
		})
		// The first set, and ten changes a second for nine seconds. The last one of the source counts.
		if len(at) > 91 || len(at) < 40 {
			t.Errorf("%d updates in 9 s", len(at))
		}
		for i := range at[2:] {
			if d := at[i+2] - at[i+1]; d < updateEvery {
				t.Fatalf("updates %d and %d are %v apart", i+1, i+2, d)
			}
		}
		if want := addrs(hosts(0, 10)); last != want {
			t.Errorf("last set %s, want %s", last, want)
		}
	})
}

func TestRunTellsTheFirstChangeAtOnceAndTheNextWithin100ms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := startRun(t, answers(hosts(0, 3), hosts(0, 2), hosts(0, 4), hosts(0, 5)), RunOptions{})
		passed(0)
		rec.wantSets(t, addrs(hosts(0, 3)), addrs(hosts(0, 2)))
		passed(updateEvery - 1)
		rec.wantSets(t, addrs(hosts(0, 3)), addrs(hosts(0, 2)))
		passed(1)
		rec.wantSets(t, addrs(hosts(0, 3)), addrs(hosts(0, 2)), addrs(hosts(0, 5)))
	})
}

func TestRunTellsNothingOfWhatWasUndone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := startRun(t, answers(hosts(0, 3), hosts(0, 4), hosts(0, 5), hosts(0, 4)), RunOptions{})
		passed(time.Minute)
		rec.wantSets(t, addrs(hosts(0, 3)), addrs(hosts(0, 4)))
	})
}

func TestRunEndsWhileAChangeIsPutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := startRun(t, answers(hosts(0, 3), hosts(0, 4), hosts(0, 5)), RunOptions{})
		passed(0)
		rec.cancel()
		passed(time.Minute)
		rec.wantSets(t, addrs(hosts(0, 3)), addrs(hosts(0, 4)))
		if got, want := rec.kinds(), "published, ended"; got != want {
			t.Errorf("events: %s, want %s", got, want)
		}
	})
}

func TestRunSurvivesAPanicOfWhatWasPutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var failed []error
		var sizes []int
		_ = Run(ctx, answers(hosts(0, 3), hosts(0, 4), hosts(0, 5)), "orders", RunOptions{Observe: func(e Event) {
			if e.Err != nil {
				failed = append(failed, e.Err)
			}
		}}, func(set []Endpoint) {
			sizes = append(sizes, len(set))
			if len(sizes) == 3 {
				panic("index out of range")
			}
		})
		if len(failed) != 1 || !strings.Contains(failed[0].Error(), "index out of range") {
			t.Errorf("failures %v, want one with the value of the panic", failed)
		}
		if n := len(sizes); sizes[n-1] != 5 {
			t.Errorf("sizes of sets %v, want 5 at last", sizes)
		}
	})
}

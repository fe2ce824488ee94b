package discovery

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestRunTellsSinceWhenTheSourceIsNotHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		back := start.Add(2 * time.Minute)
		works := func(ctx context.Context, update func([]Endpoint)) error {
			update(endpoints("a:1"))
			time.Sleep(time.Minute)
			return errDown
		}
		down := func(ctx context.Context, update func([]Endpoint)) error {
			if time.Now().Before(back) {
				return errDown
			}
			return answers(endpoints("a:1"))(ctx, update)
		}
		rec := startRun(t, inTurn(failing(errDown), works, down), RunOptions{Rand: seeded(7)})
		passed(time.Hour)
		rec.wantSets(t, "a:1")
		if got, want := rec.kinds(), "watch failed, published, watch failed, confirmed"; got != want {
			t.Errorf("events: %s, want %s", got, want)
		}
		heard := time.Time{}
		for i, e := range rec.log() {
			switch e.Kind {
			case EventPublished:
				heard = time.Now()
				fallthrough
			case EventConfirmed:
				if !e.Lost.IsZero() {
					t.Errorf("event %d: %v: not heard since %v", i, e.Kind, e.Lost)
				}
			case EventWatchFailed:
				if want := start; heard.IsZero() && !e.Lost.Equal(want) {
					t.Errorf("event %d: not heard since %v, want %v", i, e.Lost, want)
				}
				if after := e.Lost.Sub(start); !heard.IsZero() && (after < time.Minute || after > time.Minute+firstWait) {
					t.Errorf("event %d: not heard since %v after the start, want the end of the first watch that worked", i, after)
				}
			}
		}
	})
}

func TestRunDoesNotHearWhatItRejects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		rec := startRun(t, apart(time.Second, endpoints("a:1"), endpoints("a"), endpoints("b"), endpoints("a:1")), RunOptions{})
		passed(time.Minute)
		if got, want := rec.kinds(), "published, answer rejected, confirmed"; got != want {
			t.Errorf("events: %s, want %s", got, want)
		}
		for i, want := range []time.Time{{}, start.Add(time.Second), start.Add(time.Second), {}} {
			if got := rec.log()[i].Lost; !got.Equal(want) {
				t.Errorf("event %d: not heard since %v, want %v", i, got, want)
			}
		}
	})
}

func TestRunHearsThatAServiceIsUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := startRun(t, Static{}, RunOptions{})
		passed(time.Minute)
		for i, e := range rec.log()[1:] {
			if !e.Lost.IsZero() {
				t.Fatalf("event %d: %+v: not heard, although the source says that there is no such service", i+1, e)
			}
			if e.Kind == EventConfirmed {
				t.Fatalf("event %d says that nothing has changed", i+1)
			}
		}
	})
}

package discovery

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// unknown delivers the endpoints, if any, and says after a minute that the service is gone.
func unknown(addrs ...string) resolverFunc {
	return func(_ context.Context, update func([]Endpoint)) error {
		if len(addrs) > 0 {
			update(endpoints(addrs...))
			time.Sleep(time.Minute)
		}
		return ErrUnknownService
	}
}

func TestRunBelievesAnEmptyFirstAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := startRun(t, answers(nil), RunOptions{})
		passed(0)
		rec.wantSets(t, "")
	})
}

func TestRunAsksAgainBeforeItBelievesAnEmptyAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := startRun(t, inTurn(answers(endpoints("a:1"), nil, nil), answers(nil)), RunOptions{Rand: shortest})
		passed(defaultEmptyGrace)
		rec.wantSets(t, "a:1")
		if got, want := rec.kinds(), "published, empty held"; got != want {
			t.Errorf("events: %s, want %s", got, want)
		}
		passed(1) // the shortest wait beyond
		rec.wantSets(t, "a:1", "")
		if got, want := rec.kinds(), "published, empty held, published"; got != want {
			t.Errorf("events: %s, want %s: the fresh watch is not a failure", got, want)
		}
	})
}

func TestRunKeepsTheSetIfTheFreshAnswerDisagrees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := startRun(t, inTurn(answers(endpoints("a:1"), nil), answers(endpoints("a:1"))), RunOptions{})
		passed(time.Hour)
		rec.wantSets(t, "a:1")
	})
}

func TestRunForgetsASuspicionOnANonEmptyAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		watches := 0
		rec := startRun(t, resolverFunc(func(ctx context.Context, update func([]Endpoint)) error {
			watches++
			update(endpoints("a:1"))
			for range 10 { // empty for 3 s out of 4, and never confirmed
				update(nil)
				time.Sleep(3 * time.Second)
				update(endpoints("a:1", "b:1"))
				time.Sleep(time.Second)
			}
			<-ctx.Done()
			return ctx.Err()
		}), RunOptions{})
		passed(3 * time.Second)
		rec.wantSets(t, "a:1", "a:1 b:1")
		passed(time.Hour)
		rec.wantSets(t, "a:1", "a:1 b:1")
		if watches != 1 {
			t.Errorf("%d watches, want 1: the suspicion was over before it was checked", watches)
		}
	})
}

func TestRunBeginsASuspicionAnewOnARejectedAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// A source that lists endpoints, if only unusable ones, does not say that there are none.
		rec := startRun(t, inTurn(func(ctx context.Context, update func([]Endpoint)) error {
			update(endpoints("a:1"))
			update(nil)
			time.Sleep(defaultEmptyGrace - time.Second)
			update(endpoints("invalid"))
			<-ctx.Done()
			return ctx.Err()
		}, answers(nil)), RunOptions{Rand: shortest})
		passed(2*defaultEmptyGrace - time.Second)
		rec.wantSets(t, "a:1")
		if got, want := rec.kinds(), "published, empty held, answer rejected"; got != want {
			t.Errorf("events: %s, want %s", got, want)
		}
		passed(1)
		rec.wantSets(t, "a:1", "")
	})
}

func TestRunChecksASuspicionWithALateWatchOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var started []time.Duration
		start := time.Now()
		emptyThenBroken := func(_ context.Context, update func([]Endpoint)) error {
			started = append(started, time.Since(start))
			update(nil)
			return errDown
		}
		first := func(_ context.Context, update func([]Endpoint)) error {
			update(endpoints("a:1"))
			update(nil)
			return errDown
		}
		rec := startRun(t, inTurn(first, emptyThenBroken), RunOptions{EmptyGrace: 10 * time.Second, Rand: seeded(2)})
		passed(10*time.Second - 1)
		rec.wantSets(t, "a:1")
		passed(3 * time.Second)
		rec.wantSets(t, "a:1", "")
		if len(started) < 3 {
			t.Errorf("%d watches, want several that began too early", len(started))
		}
	})
}

func TestRunCutsAWatchThatBeganDuringTheSuspicion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := func(_ context.Context, update func([]Endpoint)) error {
			update(endpoints("a:1"))
			update(nil)
			return errDown
		}
		rec := startRun(t, inTurn(first, answers(nil)), RunOptions{Rand: longest})
		passed(defaultEmptyGrace)
		rec.wantSets(t, "a:1")
		passed(steady) // by how much callers differ
		rec.wantSets(t, "a:1", "")
	})
}

func TestRunGuardsAgainstAnUnknownService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := startRun(t, inTurn(unknown("a:1"), unknown()), RunOptions{Rand: seeded(3)})
		passed(time.Minute + defaultEmptyGrace - 1)
		rec.wantSets(t, "a:1")
		passed(steady + shortWait/2)
		rec.wantSets(t, "a:1", "")
	})
	synctest.Test(t, func(t *testing.T) {
		rec := startRun(t, inTurn(unknown("a:1"), unknown(), answers(endpoints("b:1"))), RunOptions{})
		passed(time.Minute + time.Second)
		rec.wantSets(t, "a:1", "b:1")
		passed(time.Hour)
		rec.wantSets(t, "a:1", "b:1")
	})
}

func TestRunBelievesAtOnceWithoutGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := startRun(t, apart(updateEvery, endpoints("a:1"), nil, endpoints("b:1"), nil), RunOptions{EmptyGrace: -1})
		passed(time.Second)
		rec.wantSets(t, "a:1", "", "b:1", "")
	})
}

func TestRunDoesNotSpinWithATinyGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		watches := 0
		startRun(t, resolverFunc(func(ctx context.Context, update func([]Endpoint)) error {
			watches++
			return answers(endpoints("a:1"), nil)(ctx, update)
		}), RunOptions{EmptyGrace: 1})
		passed(30 * time.Second)
		if watches > 30+burst+1 {
			t.Errorf("%d watches in 30 s, want at most one a second", watches)
		}
	})
}

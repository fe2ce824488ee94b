package discovery

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestRunHoldsTheRemovalOfMostEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := startRun(t, inTurn(answers(hosts(0, 10), hosts(0, 4)), answers(hosts(0, 10))), RunOptions{Rand: shortest})
		passed(defaultEmptyGrace)
		rec.wantSets(t, addrs(hosts(0, 10)))
		if got, want := rec.kinds(), "published, removal held"; got != want {
			t.Errorf("events: %s, want %s", got, want)
		}
		if e := rec.log()[1]; e.Endpoints != 10 || e.Held != 6 {
			t.Errorf("event %+v, want 6 of 10 endpoints held", e)
		}
		passed(time.Hour)
		rec.wantSets(t, addrs(hosts(0, 10)))
		if got, want := rec.kinds(), "published, removal held, confirmed"; got != want {
			t.Errorf("events: %s, want %s", got, want)
		}
		if e := rec.log()[2]; e.Endpoints != 10 || e.Held != 0 {
			t.Errorf("event %+v, want 10 endpoints and none held", e)
		}
	})
}

func TestRunBelievesTheRemovalOfMostEndpointsThatIsConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		rec := startRun(t, inTurn(answers(hosts(0, 100), hosts(0, 2)), answers(hosts(0, 2))), RunOptions{Rand: longest})
		passed(defaultEmptyGrace + steady)
		rec.wantSets(t, addrs(hosts(0, 100)), addrs(hosts(0, 2)))
		if took := time.Since(start); took > 6*time.Second {
			t.Errorf("it took %v", took)
		}
		if e := rec.log()[2]; e.Kind != EventPublished || e.Held != 0 {
			t.Errorf("event %+v, want a published set", e)
		}
	})
}

func TestRunTakesOverAdditionsAtOnceWhileItHoldsRemovals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := startRun(t, inTurn(answers(hosts(0, 10), hosts(8, 30)), answers(hosts(8, 30))), RunOptions{})
		passed(0)
		rec.wantSets(t, addrs(hosts(0, 10)), addrs(hosts(0, 30)))
		if e := rec.log()[2]; e.Kind != EventPublished || e.Endpoints != 30 || e.Held != 8 {
			t.Errorf("event %+v, want 30 endpoints published and 8 of them held", e)
		}
		passed(defaultEmptyGrace + steady)
		rec.wantSets(t, addrs(hosts(0, 10)), addrs(hosts(0, 30)), addrs(hosts(8, 30)))
	})
}

// A source that begins each watch with an old answer must not keep endpoints for ever that have left.
func TestRunBelievesASourceThatBeginsWithOldAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		watches := 0
		rec := startRun(t, resolverFunc(func(ctx context.Context, update func([]Endpoint)) error {
			watches++
			update(hosts(0, 10))
			time.Sleep(200 * time.Millisecond)
			update(hosts(0, 2))
			<-ctx.Done()
			return ctx.Err()
		}), RunOptions{})
		passed(time.Minute)
		rec.wantSets(t, addrs(hosts(0, 10)), addrs(hosts(0, 2)))
		if watches != 2 {
			t.Errorf("%d watches, want 2", watches)
		}
	})
}

// The first answer of a new watch may be older than what is known. It takes away no more than any other.
func TestRunGuardsAgainstAnOldFirstAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := func(_ context.Context, update func([]Endpoint)) error {
			update(hosts(0, 4))
			update(hosts(0, 20))
			time.Sleep(time.Minute)
			return errDown
		}
		rec := startRun(t, inTurn(broken, apart(time.Second, hosts(0, 4), hosts(0, 20))), RunOptions{})
		passed(time.Hour)
		rec.wantSets(t, addrs(hosts(0, 4)), addrs(hosts(0, 20)))
		if got, want := rec.kinds(), "published, watch failed, removal held, confirmed"; got != want {
			t.Errorf("events: %s, want %s", got, want)
		}
	})
}

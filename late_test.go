package zerohop

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

var errBusy = errors.New("come back later")

// openLearned returns a mesh that knows that orders take 5 ms, and whose errBusy asks for a pause of a second.
func openLearned(t *testing.T) *Mesh {
	t.Helper()
	m := open(t, Config{
		Resolver: orders(3),
		Spec:     Spec{Defaults: Policy{Idempotent: On, Budget: Budget{Tokens: 100}}},
		Classify: func(_ CallInfo, r AttemptResult, v resilience.Verdict) resilience.Verdict {
			if errors.Is(r.Err, errBusy) {
				return resilience.Verdict{Outcome: resilience.Overload, Retry: true, After: time.Second}
			}
			return v
		},
	})
	for range 100 {
		if _, err := Do(t.Context(), m, "orders", turns(after(5*time.Millisecond, nil))); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// However many calls wait together for an endpoint that takes longer to refuse them than a backup to win, it is not taken
// for dead.
func TestCallsThatHangTogetherDoNotEject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := openLearned(t)
		busy := m.known()["orders"].balancer.Set().Nodes()[0]
		var calls sync.WaitGroup
		for range 30 {
			calls.Go(func() {
				_, err := Do(t.Context(), m, "orders", func(ctx context.Context, n *loadbalance.Node) (int, error) {
					if n == busy {
						return 0, after(100*time.Millisecond, errBusy)(ctx)
					}
					return 0, after(5*time.Millisecond, nil)(ctx)
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if n := busy.InFlight(); n < 8 {
			t.Errorf("%d calls wait for the endpoint, want more than eject", n)
		}
		calls.Wait()
		synctest.Wait()
		if e, p := busy.Ejected(), busy.Penalized(time.Now()); e || !p {
			t.Errorf("Ejected() = %v, Penalized() = %v after calls that hung together, want false, true", e, p)
		}
	})
}

// A refusal that comes when a backup has won says that the endpoint is alive, and for how long it is to be left alone.
func TestLateRefusalIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := openLearned(t)
		var tried atomic.Pointer[loadbalance.Node]
		first := func(context.Context) error { // its answer is on its way when nobody waits for it any more
			time.Sleep(100 * time.Millisecond)
			return errBusy
		}
		again := turns(first, after(5*time.Millisecond, nil))
		got, err := Do(t.Context(), m, "orders", func(ctx context.Context, n *loadbalance.Node) (int, error) {
			tried.CompareAndSwap(nil, n)
			return again(ctx, n)
		})
		if err != nil || got != 1 {
			t.Fatalf("Do() = attempt %d, %v, want the backup", got, err)
		}
		synctest.Wait()
		if !tried.Load().Penalized(time.Now().Add(900 * time.Millisecond)) {
			t.Error("the endpoint does not get the pause that it asked for")
		}
	})
}

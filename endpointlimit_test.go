package zerohop

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

func TestCallsGoToEndpointsBelowTheirLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told refusals
		m := open(t, Config{Resolver: orders(3), Hooks: told.hooks(), Spec: Spec{Defaults: Policy{EndpointLimit: EndpointLimit{Mode: On, Algorithm: "fixed", Max: 2}}}})
		var all sync.WaitGroup
		hold := make(chan struct{})
		used := make(chan string, 6)
		for range 6 {
			all.Go(func() {
				if _, err := Do(t.Context(), m, "orders", func(_ context.Context, n *loadbalance.Node) (int, error) {
					used <- n.Addr()
					<-hold
					return 0, nil
				}); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		e := failure(t, ping(t.Context(), m, "orders"))
		if e.Reason != Limited || e.Detail != resilience.Refused || !errors.Is(e, resilience.ErrLimited) || !errors.Is(e, loadbalance.ErrLimited) || e.Sent || len(e.Attempts) > 0 {
			t.Errorf("error = %+v, want a refusal of the limit", e)
		}
		if len(told.list) != 1 || told.list[0].Stage != StageEndpointLimit || told.list[0].Attempt != 0 || !told.list[0].Enforced {
			t.Errorf("Hooks.Refused got %+v, want one refusal of the first attempt", told.list)
		}
		close(hold)
		all.Wait()
		by := map[string]int{}
		for range 6 {
			by[<-used]++
		}
		for addr, n := range by {
			if n != 2 {
				t.Errorf("%d attempts on %s, want 2", n, addr)
			}
		}
		if err := ping(t.Context(), m, "orders"); err != nil {
			t.Errorf("call with nothing in flight: %v", err)
		}
	})
}

// A retry for which there is no room leaves the call with the answer that it has.
func TestRetryThatFindsEndpointsAtTheirLimitIsNotMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(2), Spec: Spec{Defaults: Policy{Idempotent: On, EndpointLimit: EndpointLimit{Mode: On, Algorithm: "fixed", Max: 1}}}})
		hold := make(chan struct{})
		var all sync.WaitGroup
		occupy := func() {
			all.Go(func() {
				_, err := Do(t.Context(), m, "orders", func(context.Context, *loadbalance.Node) (int, error) { <-hold; return 0, nil })
				if err != nil {
					t.Error(err)
				}
			})
		}
		occupy()
		synctest.Wait()
		broken, tries := errors.New("broken"), 0
		_, err := Do(t.Context(), m, "orders", func(context.Context, *loadbalance.Node) (int, error) {
			tries++
			time.AfterFunc(1, occupy) // before the pause is over
			return 0, broken
		})
		if e := failure(t, err); !errors.Is(e, broken) || e.Reason != Failed || e.Detail != resilience.Refused || tries != 1 {
			t.Errorf("error = %+v after %d attempts, want that of the one attempt, and that its retry was refused", e, tries)
		}
		close(hold)
		all.Wait()
	})
}

// Attempts that time out show how much an endpoint can take.
func TestEndpointLimitFollowsAttemptTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(1), Spec: Spec{Defaults: Policy{
			AttemptTimeout: 100 * time.Millisecond, Retry: Retry{Mode: Off}, Outlier: Outlier{Mode: Off}, EndpointLimit: EndpointLimit{Mode: On},
		}}})
		call := func(lasts time.Duration) error {
			_, err := Do(t.Context(), m, "orders", func(ctx context.Context, _ *loadbalance.Node) (int, error) {
				select {
				case <-time.After(lasts):
					return 0, nil
				case <-ctx.Done():
					return 0, ctx.Err()
				}
			})
			return err
		}
		var all sync.WaitGroup
		for range 5 {
			for range 20 {
				all.Go(func() { _ = call(time.Second) })
			}
			all.Wait()
		}
		errs := make(chan error, 20)
		for range 20 {
			all.Go(func() { errs <- call(50 * time.Millisecond) })
		}
		all.Wait()
		refused := 0
		for range 20 {
			if err := <-errs; err != nil {
				if e := failure(t, err); e.Reason != Limited {
					t.Errorf("Reason = %v, want %v", e.Reason, Limited)
				}
				refused++
			}
		}
		if refused < 15 || refused == 20 {
			t.Errorf("%d of 20 calls refused after 100 timeouts, want nearly all", refused)
		}
		time.Sleep(11 * time.Second)
		for range 3 { // the first one lifts the limit
			if err := call(50 * time.Millisecond); err != nil {
				t.Error(err)
			}
		}
	})
}

package zerohop

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// busy is the error of an endpoint that asks for a pause.
func busy(after time.Duration) error {
	return &ClassifiedError{Verdict: resilience.Verdict{Outcome: resilience.Overload, Retry: true, After: after}, Err: errDown}
}

func TestPauseIsForTheEndpointThatAskedForIt(t *testing.T) {
	for _, balance := range []string{"peak-ewma", "least-request"} {
		synctest.Test(t, func(t *testing.T) {
			const pause = 10 * time.Second
			m := open(t, Config{Resolver: orders(3), Spec: Spec{Defaults: Policy{Balance: balance, Idempotent: On}}})
			var asked int
			var last time.Time
			start := time.Now()
			for time.Since(start) < pause {
				begun := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				_, err := Do(ctx, m, "orders", func(_ context.Context, n *loadbalance.Node) (int, error) {
					if n.Addr() == endpoints(3)[0].Addr {
						if asked++; !last.IsZero() && time.Since(last) < pause {
							t.Errorf("%s: asked again %v after it had asked for a pause", balance, time.Since(last))
						}
						last = time.Now()
						return 0, busy(pause)
					}
					time.Sleep(time.Millisecond)
					return 0, nil
				})
				cancel()
				if took := time.Since(begun); err != nil || took > 50*time.Millisecond {
					t.Errorf("%s: Do() = %v after %v, want success elsewhere at once", balance, err, took)
				}
				time.Sleep(10 * time.Millisecond)
			}
			if asked == 0 {
				t.Errorf("%s: the busy endpoint was never asked", balance)
			}
		})
	}
}

func TestPauseIsKeptWhereNothingElseIsLeft(t *testing.T) {
	for _, c := range []struct {
		name     string
		nodes    int
		deadline time.Duration
		took     time.Duration
		attempts int
		detail   resilience.Reason
	}{
		// 3 attempts, the second one on the other endpoint after a backoff of at most 25 ms.
		{"one endpoint", 1, time.Minute, 20 * time.Second, 3, resilience.Exhausted},
		{"two endpoints", 2, time.Minute, 10 * time.Second, 3, resilience.Exhausted},
		{"three endpoints", 3, time.Minute, 0, 3, resilience.Exhausted},
		{"two endpoints, too little time", 2, 5 * time.Second, 0, 2, resilience.OutOfTime},
		{"two endpoints, no deadline", 2, 0, 0, 2, resilience.OutOfTime},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := open(t, Config{Resolver: orders(c.nodes), Spec: Spec{Defaults: Policy{Idempotent: On, Backup: Backup{Mode: Off}}}})
				ctx := t.Context()
				if c.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.deadline)
					defer cancel()
				}
				start := time.Now()
				_, err := Do(ctx, m, "orders", func(context.Context, *loadbalance.Node) (int, error) { return 0, busy(10 * time.Second) })
				e := failure(t, err)
				if took := time.Since(start); took < c.took || took > c.took+100*time.Millisecond {
					t.Errorf("Do() took %v, want %v", took, c.took)
				}
				if len(e.Attempts) != c.attempts || e.Detail != c.detail || !errors.Is(err, errDown) {
					t.Errorf("Do() = %v after %d attempts, want %v after %d", e.Detail, len(e.Attempts), c.detail, c.attempts)
				}
			})
		})
	}
}

// Of ten endpoints one is neither tried, nor under a penalty, nor open: retries find it.
func TestPauseGoesToTheOneEndpointThatIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(10), Spec: Spec{Defaults: Policy{
			Idempotent: On, Breaker: Breaker{Mode: On, Consecutive: 1, OpenFor: time.Hour},
			Retry: Retry{Attempts: 2}, Budget: Budget{Mode: Off},
		}}})
		s, err := m.service("orders")
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		nodes := s.balancer.Set().Nodes()
		for range 20 {
			// Half of the others fail, half ask for a pause; the first two are as good as new.
			for i, n := range nodes[2:] {
				report := loadbalance.Report{Now: time.Now(), Outcome: resilience.Failure}
				if i%2 == 0 {
					report.Outcome, report.After = resilience.Overload, time.Minute
				}
				if p, err := s.balancer.View([]*loadbalance.Node{n}).Pick(loadbalance.Info{Now: time.Now()}); err == nil {
					p.Done(report)
				}
			}
			var tried []*loadbalance.Node
			_, err := Do(t.Context(), m, "orders", func(_ context.Context, n *loadbalance.Node) (int, error) {
				if tried = append(tried, n); len(tried) == 1 {
					return 0, busy(time.Minute)
				}
				return 0, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if second := tried[1]; second != nodes[0] && second != nodes[1] {
				t.Errorf("the second attempt went to %s, which is not ready", second.Addr())
			}
			time.Sleep(2 * time.Minute)
		}
	})
}

// A connection that broke while it was idle says nothing about the endpoint, but the call has to be repeated.
func TestNeutralFailuresAreRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stale := &ClassifiedError{Verdict: resilience.Verdict{Outcome: resilience.Neutral, Retry: true}, Err: errDown}
		var outcomes []resilience.Outcome
		m := open(t, Config{
			Resolver: orders(2),
			Spec:     Spec{Defaults: Policy{Idempotent: On, Breaker: Breaker{Mode: On, Consecutive: 1}, Budget: Budget{Tokens: 4}}},
			Hooks:    Hooks{CallDone: func(_ context.Context, _ CallInfo, r CallResult) { outcomes = append(outcomes, r.Outcome) }},
		})
		call := func(errs ...error) error {
			attempt := 0
			_, err := Do(t.Context(), m, "orders", func(context.Context, *loadbalance.Node) (int, error) {
				attempt++
				return 0, errs[attempt-1]
			})
			return err
		}
		if err := call(stale, nil); err != nil {
			t.Errorf("Do() = %v, want success with the second attempt", err)
		}
		s, _ := m.service("orders")
		for _, n := range s.balancer.Set().Nodes() {
			if n.Penalized(time.Now()) || n.BreakerState(time.Now()) != "closed" {
				t.Errorf("%s is held responsible for a stale connection", n.Addr())
			}
		}
		if got, want := s.budget.Level(), (4.0-1+0.1)/4; got != want {
			t.Errorf("budget is at %v, want %v", got, want)
		}
		if e := failure(t, call(stale, stale)); e.Detail != resilience.OverBudget || len(e.Attempts) != 2 {
			t.Errorf("%v after %d attempts, want the budget to be empty after the second", e.Detail, len(e.Attempts))
		}
		if want := []resilience.Outcome{resilience.Success, resilience.Failure}; len(outcomes) != 2 || outcomes[0] != want[0] || outcomes[1] != want[1] {
			t.Errorf("outcomes of the calls = %v, want %v", outcomes, want)
		}
	})
}

package resilience_test

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// script makes a function whose attempts each behave as their entry says, and whose result is the number of the attempt.
func script(steps ...func(ctx context.Context) error) func(context.Context) (int, error) {
	var n atomic.Int32
	return func(ctx context.Context) (int, error) {
		i := int(n.Add(1))
		return i, steps[i-1](ctx)
	}
}

// after waits, unless its context ends before, and returns err.
func after(d time.Duration, err error) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-time.After(d):
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func TestHedgeTakesTheFirstSuccess(t *testing.T) {
	const ms = time.Millisecond
	hedge := func(retry *resilience.Retry) *resilience.Stack {
		return &resilience.Stack{
			Idempotent: true, Retry: retry, Hedge: &resilience.Hedge{After: 100 * ms}, Rand: func() uint64 { return 0 },
		}
	}
	for name, test := range map[string]struct {
		stack *resilience.Stack
		steps []func(context.Context) error
		want  int
		err   error
		took  time.Duration
	}{
		"fast":                    {hedge(nil), []func(context.Context) error{after(99*ms, nil)}, 1, nil, 99 * ms},
		"second is faster":        {hedge(nil), []func(context.Context) error{after(time.Hour, nil), after(50*ms, nil)}, 2, nil, 150 * ms},
		"first is faster":         {hedge(nil), []func(context.Context) error{after(120*ms, nil), after(50*ms, nil)}, 1, nil, 120 * ms},
		"early failure of first":  {hedge(nil), []func(context.Context) error{after(120*ms, errBroken), after(50*ms, nil)}, 2, nil, 150 * ms},
		"early failure of second": {hedge(nil), []func(context.Context) error{after(200*ms, nil), after(50*ms, errBroken)}, 1, nil, 200 * ms},
		"both fail":               {hedge(nil), []func(context.Context) error{after(200*ms, errBroken), after(50*ms, errBroken)}, 1, errBroken, 200 * ms},
		"not safe": {
			&resilience.Stack{Hedge: &resilience.Hedge{After: 100 * ms}}, []func(context.Context) error{after(time.Second, nil)}, 1, nil, time.Second,
		},
		"third after both failed": {
			hedge(&resilience.Retry{}), []func(context.Context) error{after(200*ms, errBroken), after(50*ms, errBroken), after(10*ms, nil)}, 3, nil, 210 * ms,
		},
		"third after both failed, the second last": {
			hedge(&resilience.Retry{}), []func(context.Context) error{after(120*ms, errBroken), after(50*ms, errBroken), after(10*ms, nil)}, 3, nil, 160 * ms,
		},
		"three at a time": {
			hedge(&resilience.Retry{}), []func(context.Context) error{after(time.Hour, nil), after(time.Hour, nil), after(10*ms, nil)}, 3, nil, 210 * ms,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				got, err := resilience.Do(t.Context(), test.stack, script(test.steps...))
				took := time.Since(begin)
				if got != test.want || !errors.Is(err, test.err) || took != test.took {
					t.Errorf("Do() = %d, %v after %v, want %d, %v after %v", got, err, took, test.want, test.err, test.took)
				}
			})
		})
	}
}

func TestHedgeLosersAreNobodysFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := resilience.NewBreaker(resilience.BreakerConfig{Consecutive: 1})
		budget := resilience.NewBudget(resilience.BudgetConfig{})
		s := &resilience.Stack{Idempotent: true, Hedge: &resilience.Hedge{After: time.Second}, Breaker: b, Budget: budget}
		for _, steps := range [][]func(context.Context) error{
			{after(time.Hour, nil), after(time.Millisecond, nil)},
			{after(1500*time.Millisecond, nil), after(time.Hour, nil)},
		} {
			if _, err := resilience.Do(t.Context(), s, script(steps...)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if b.State(resilience.Now()) != "closed" {
			t.Errorf("breaker is %s, want closed", b.State(resilience.Now()))
		}
		// The hedge that won is free, the other one costs 2 of 10, less the 0.1 of a success.
		if got, want := budget.Level(), 0.81; got < want-1e-9 || got > want+1e-9 {
			t.Errorf("budget is filled to %v after two hedges and two successes, want %v", got, want)
		}
	})
}

func TestHedgeLearnsWhenToJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &resilience.Stack{Idempotent: true, Hedge: &resilience.Hedge{Latency: &resilience.Latency{}}}
		for range 20 {
			if _, err := resilience.Do(t.Context(), s, script(after(100*time.Millisecond, nil))); err != nil {
				t.Fatal(err)
			}
		}
		begin := time.Now()
		if _, err := resilience.Do(t.Context(), s, script(after(time.Hour, nil), after(0, nil))); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(begin); got < 200*time.Millisecond || got > 230*time.Millisecond {
			t.Errorf("a call was hedged after %v where 100ms are usual, want twice that", got)
		}
	})
}

func TestPanicsReachTheCallerAndHoldNothing(t *testing.T) {
	crash := func(context.Context) error { panic("crash") }
	exit := func(context.Context) error { runtime.Goexit(); return nil }
	hedge := &resilience.Hedge{After: time.Second}
	for name, test := range map[string]struct {
		stack resilience.Stack
		steps []func(context.Context) error
	}{
		"plain":           {resilience.Stack{}, []func(context.Context) error{crash}},
		"retry":           {resilience.Stack{Idempotent: true, Retry: &resilience.Retry{}}, []func(context.Context) error{after(0, errBroken), crash}},
		"hedged":          {resilience.Stack{Idempotent: true, Hedge: hedge}, []func(context.Context) error{crash}},
		"first of two":    {resilience.Stack{Idempotent: true, Hedge: hedge}, []func(context.Context) error{func(context.Context) error { time.Sleep(2 * time.Second); panic("crash") }, after(time.Hour, nil)}},
		"second of two":   {resilience.Stack{Idempotent: true, Hedge: hedge}, []func(context.Context) error{after(time.Hour, nil), crash}},
		"exit of another": {resilience.Stack{Idempotent: true, Hedge: hedge}, []func(context.Context) error{after(time.Hour, nil), exit}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := resilience.NewBreaker(resilience.BreakerConfig{Consecutive: 9, Probes: 1, OpenFor: time.Second})
				for range 9 {
					p, _ := b.Allow(resilience.Now())
					p.Done(resilience.Now(), resilience.Failure, 0)
				}
				time.Sleep(2 * time.Second) // now it admits one at a time
				test.stack.Breaker = b
				if name == "retry" || test.stack.Hedge != nil {
					test.stack.Breaker = nil // it would not let the second one pass
				}
				func() {
					defer func() {
						if p := recover(); p == nil {
							t.Error("Do() returned, want the panic of the function")
						}
					}()
					_, _ = resilience.Do(t.Context(), &test.stack, script(test.steps...))
				}()
				synctest.Wait()
				if _, ok := b.Allow(resilience.Now()); !ok {
					t.Error("breaker has no permit left after a panic")
				}
			})
		})
	}
}

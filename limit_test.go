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
	"github.com/zerohop/zerohop/routing"
)

func holding(l Limit) Spec { return Spec{Defaults: Policy{Limit: l}} }

// hold makes a call that lasts for d.
func hold(ctx context.Context, m *Mesh, d time.Duration) error {
	_, err := Do(ctx, m, "orders", func(context.Context, *loadbalance.Node) (int, error) { time.Sleep(d); return 0, nil })
	return err
}

func TestLimitRefusesCallsWithoutAPlace(t *testing.T) {
	for _, mode := range []Switch{On, Observe} {
		synctest.Test(t, func(t *testing.T) {
			var told refusals
			m := open(t, Config{Resolver: orders(1), Spec: holding(Limit{Mode: mode, Max: 1}), Hooks: told.hooks()})
			if err := hold(t.Context(), m, 80*time.Millisecond); err != nil {
				t.Fatal(err)
			}
			var all sync.WaitGroup
			all.Go(func() { _ = hold(t.Context(), m, time.Second) })
			synctest.Wait()
			if got, _ := m.LimitState("orders"); got.Limit != 1 || got.InFlight != 1 {
				t.Errorf("%s: LimitState() = %+v, want a limit of 1 with 1 in flight", mode, got)
			}
			err := ping(t.Context(), m, "orders")
			if mode == Observe && err != nil {
				t.Errorf("%s: %v", mode, err)
			} else if mode == On {
				e := failure(t, err)
				if e.Reason != Limited || e.Detail != resilience.Refused || !errors.Is(e, resilience.ErrLimited) || e.Sent || len(e.Attempts) > 0 || e.After != 80*time.Millisecond {
					t.Errorf("error = %+v, want a refusal that says when to come again", e)
				}
			}
			if len(told.list) != 1 || told.list[0].Stage != StageLimit || told.list[0].Attempt != -1 || told.list[0].Enforced != (mode == On) {
				t.Errorf("%s: Hooks.Refused got %+v, want one refusal of the call", mode, told.list)
			}
			all.Wait()
			if err := ping(t.Context(), m, "orders"); err != nil || len(told.list) != 1 {
				t.Errorf("%s: call with nothing in flight: %v, %+v", mode, err, told.list)
			}
			if got, ok := m.LimitState("Orders"); !ok || got.InFlight != 0 {
				t.Errorf("%s: at rest LimitState() = %+v, %v, want a limit with nothing in flight", mode, got, ok)
			}
			if got, ok := m.LimitState("users"); ok {
				t.Errorf("%s: LimitState() = %+v for a service that was never called", mode, got)
			}
		})
	}
}

func TestCallsWaitForAPlace(t *testing.T) {
	for _, c := range []struct {
		name   string
		limit  Limit
		ctx    time.Duration
		reason Reason
		after  time.Duration
	}{
		{"let in", Limit{Mode: On, Max: 1, Queue: 1}, 0, "", 500 * time.Millisecond},
		{"waits too long", Limit{Mode: On, Max: 1, Queue: 1, MaxWait: 300 * time.Millisecond}, 0, Limited, 300 * time.Millisecond},
		{"cancelled", Limit{Mode: On, Max: 1, Queue: 1}, -200 * time.Millisecond, Ended, 200 * time.Millisecond},
		{"deadline", Limit{Mode: On, Max: 1, Queue: 1, MaxWait: -1}, 400 * time.Millisecond, "", 400 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, stepped := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					m := open(t, Config{Resolver: orders(1), Spec: holding(c.limit)})
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					switch {
					case c.ctx > 0:
						ctx, cancel = context.WithTimeout(ctx, c.ctx)
						defer cancel()
					case c.ctx < 0:
						time.AfterFunc(-c.ctx, cancel)
					}
					start := time.Now()
					var err error
					if stepped {
						err = stepBehind(ctx, t, m)
					} else {
						var all sync.WaitGroup
						all.Go(func() { _ = hold(t.Context(), m, 500*time.Millisecond) })
						synctest.Wait()
						err = hold(ctx, m, 0)
						defer all.Wait()
					}
					if got := time.Since(start); got/time.Millisecond != c.after/time.Millisecond {
						t.Errorf("stepped %v: over after %v, want %v", stepped, got, c.after)
					}
					switch {
					case c.name == "deadline": // refused by it or ended by it, whichever is seen first
						if e := failure(t, err); e.Reason != Limited && e.Reason != Ended {
							t.Errorf("stepped %v: Reason = %v", stepped, e.Reason)
						}
					case c.reason == "" && err != nil, c.reason != "" && failure(t, err).Reason != c.reason:
						t.Errorf("stepped %v: error = %v, want %q", stepped, err, c.reason)
					}
					time.Sleep(time.Second)
					if got := m.known()["orders"].direct.flight.State(); got.InFlight != 0 || got.Queued != 0 {
						t.Errorf("stepped %v: at rest State() = %+v", stepped, got)
					}
				})
			}
		})
	}
}

// stepBehind makes a stepped call behind another one, which lasts for 500 ms.
func stepBehind(ctx context.Context, t *testing.T, m *Mesh) error {
	var first, second Stepped
	var x, y stepping
	ready := false
	second.Ready = func() { ready = true }
	first.Begin(t.Context(), m, &Request{Request: routing.Request{Service: "orders"}}, &x)
	second.Begin(ctx, m, &Request{Request: routing.Request{Service: "orders"}}, &y)
	end := func(s *Stepped, x *stepping) {
		s.Answer(x.open[0], resilience.Verdict{})
		if a, err := s.Result(); err == nil {
			a.End(a.Verdict().Outcome, nil)
		}
	}
	until := time.Now().Add(500 * time.Millisecond)
	for !second.Over() && len(y.open) == 0 {
		next := until
		if w := second.Wake(); !w.IsZero() && w.Before(next) {
			next = w
		}
		time.Sleep(min(time.Until(next), 100*time.Millisecond))
		synctest.Wait() // for the context to end
		if !first.Over() && !time.Now().Before(until) {
			if end(&first, &x); !ready || second.Wake().After(time.Now()) {
				t.Error("the call was not told that it may go on")
			}
		}
		second.Tick()
	}
	if !first.Over() {
		defer end(&first, &x)
	}
	if !second.Over() {
		end(&second, &y)
	}
	_, err := second.Result()
	return err
}

func TestCallsThatWaitForAPlaceEndWhenTheMeshIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(1), Spec: holding(Limit{Mode: On, Max: 1, Queue: 1, MaxWait: -1})})
		var all sync.WaitGroup
		all.Go(func() { _ = hold(t.Context(), m, time.Second) })
		synctest.Wait()
		time.AfterFunc(100*time.Millisecond, func() { m.Close() })
		start := time.Now()
		if e := failure(t, hold(t.Context(), m, 0)); e.Reason != Closed || time.Since(start) != 100*time.Millisecond {
			t.Errorf("error = %v after %v, want that the mesh is closed", e, time.Since(start))
		}
		all.Wait()
	})
}

func TestPlacesComeBackFromCallsThatPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(1), Spec: holding(Limit{Mode: On, Max: 1})})
		for range 2 {
			func() {
				defer func() {
					if recover() != "boom" {
						t.Error("no panic")
					}
				}()
				_, _ = Do(t.Context(), m, "orders", func(context.Context, *loadbalance.Node) (int, error) { panic("boom") })
			}()
		}
		if err := ping(t.Context(), m, "orders"); err != nil {
			t.Error(err)
		}
	})
}

func TestRoutesHaveLimitsOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := holding(Limit{Mode: On, Max: 1})
		spec.Routes = []routing.Rule{
			{Name: "own", Match: routing.Match{Service: "own"}, Policy: "own", Backends: []routing.Backend{{Service: "orders"}}},
			{Name: "same", Match: routing.Match{Service: "same"}, Backends: []routing.Backend{{Service: "orders"}}},
		}
		spec.Policies = map[string]Policy{"own": {Limit: Limit{Max: 2}}}
		m := open(t, Config{Resolver: orders(1), Spec: spec})
		s, err := m.service("orders")
		if err != nil {
			t.Fatal(err)
		}
		own, same, direct := m.present.Load().backends[0][0].flight, m.present.Load().backends[1][0].flight, s.direct.flight
		if same != direct || own == direct || own.State().Limit != 2 {
			t.Errorf("limits %p, %p, %p, want one of its own for the first", own, same, direct)
		}
	})
}

// An adaptive limit of a client hears of attempts that time out.
func TestLimitBacksOffAfterTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := holding(Limit{Mode: On, Algorithm: "aimd"})
		spec.Defaults.AttemptTimeout, spec.Defaults.Retry.Mode = 100*time.Millisecond, Off
		m := open(t, Config{Resolver: orders(1), Spec: spec})
		_, err := Do(t.Context(), m, "orders", func(ctx context.Context, _ *loadbalance.Node) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		})
		if got := m.known()["orders"].direct.flight.State().Limit; got != 10 || err == nil {
			t.Errorf("Limit = %d after %v, want half of 20: it was a whole round", got, err)
		}
	})
}

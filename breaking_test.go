package zerohop

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// backend is a function for Do that fails as it is told.
type backend struct {
	mu   sync.Mutex
	err  func(addr string) error
	sent int
}

func (b *backend) call(ctx context.Context, m *Mesh) error {
	_, err := Do(ctx, m, "orders", func(_ context.Context, n *loadbalance.Node) (int, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.sent++
		return 0, b.err(n.Addr())
	})
	return err
}

func always(err error) func(string) error { return func(string) error { return err } }

func classified(o resilience.Outcome) error {
	return &ClassifiedError{Verdict: resilience.Verdict{Outcome: o}, Err: errDown}
}

func TestServiceBreakerFailsFastAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told refusals
		m := open(t, Config{Resolver: orders(3), Hooks: told.hooks(), Spec: Spec{Defaults: Policy{ServiceBreaker: Breaker{Mode: On}}}})
		b := backend{err: always(errDown)}
		for range 20 {
			if e := failure(t, b.call(t.Context(), m)); e.Reason != Failed {
				t.Fatalf("error = %+v, want that of the attempt", e)
			}
		}
		start := time.Now()
		e := failure(t, b.call(t.Context(), m))
		if e.Reason != BreakerOpen || e.Detail != resilience.Refused || !errors.Is(e, resilience.ErrBreakerOpen) || e.Sent || len(e.Attempts) > 0 || time.Since(start) > 0 {
			t.Errorf("error = %+v after %v, want a refusal at once", e, time.Since(start))
		}
		state, until := m.BreakerState("Orders")
		if state != resilience.BreakerOpen || e.After < 800*time.Millisecond || e.After > time.Second || !until.Equal(start.Add(e.After)) || b.sent != 20 {
			t.Errorf("%s until %v, to come again after %v, %d sent", state, until, e.After, b.sent)
		}
		want := []Refusal{{Stage: StageBreaker, Enforced: true, After: e.After, Err: resilience.ErrBreakerOpen}}
		if !slices.Equal(told.list, want) {
			t.Errorf("Hooks.Refused got %+v, want %+v", told.list, want)
		}
		b.err = always(nil)
		time.Sleep(e.After)
		for range 3 {
			if err := b.call(t.Context(), m); err != nil {
				t.Errorf("call after the time that the error gave: %v", err)
			}
		}
		if state, until := m.BreakerState("orders"); state != resilience.BreakerClosed || !until.IsZero() {
			t.Errorf("BreakerState() = %s, %v, want closed", state, until)
		}
	})
}

func TestServiceBreakerStaysClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, err := range map[string]func(string) error{
			"one of ten endpoints fails": func(addr string) error {
				if addr == "10.0.0.1:80" {
					return errDown
				}
				return nil
			},
			"answers that tell the caller that he is wrong": always(classified(resilience.Success)),
			"too much to do":           always(classified(resilience.Overload)),
			"the callers go away":      always(classified(resilience.Neutral)),
			"the only call of an hour": func(string) error { time.Sleep(time.Hour); return errDown },
		} {
			m := open(t, Config{Resolver: orders(10), Spec: Spec{Defaults: Policy{
				Balance: "random", Outlier: Outlier{Mode: Off}, Retry: Retry{Mode: Off}, ServiceBreaker: Breaker{Mode: On},
			}}})
			b := backend{err: err}
			for range 200 {
				if e := (*Error)(nil); errors.As(b.call(t.Context(), m), &e) && e.Reason == BreakerOpen {
					t.Fatalf("%s: the breaker is open", name)
				}
			}
			if b.sent != 200 {
				t.Errorf("%s: %d sent, want 200", name, b.sent)
			}
		}
	})
}

// A retry that is refused leaves the call with the answer it has, and costs nothing.
func TestRefusedRetriesEndWithTheLastAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(3), Spec: Spec{Defaults: Policy{
			Idempotent: On, ServiceBreaker: Breaker{Mode: On, Consecutive: 1, OpenFor: time.Hour},
		}}})
		b := backend{err: always(errDown)}
		e := failure(t, b.call(t.Context(), m))
		if e.Reason != Failed || e.Detail != resilience.Refused || !errors.Is(e, errDown) || len(e.Attempts) != 1 || !e.Sent || b.sent != 1 {
			t.Errorf("error = %+v, want that of the only attempt", e)
		}
		s := m.known()["orders"]
		if got, want := s.budget.Level(), 0.9; got != want {
			t.Errorf("budget = %v of its size, want %v", got, want)
		}
		if n := inFlight(m, "orders"); n != 0 {
			t.Errorf("%d in flight", n)
		}
	})
}

func TestServiceBreakerIsForced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, mode := range []Switch{Off, On, Observe} {
			m := open(t, Config{Resolver: orders(1), Spec: Spec{Defaults: Policy{Outlier: Outlier{Mode: Off}, ServiceBreaker: Breaker{Mode: mode}}}})
			if err := ping(t.Context(), m, "orders"); err != nil {
				t.Fatal(err)
			}
			initial, _ := m.BreakerState("orders")
			if initial != map[Switch]resilience.BreakerState{Off: "", On: resilience.BreakerClosed, Observe: resilience.BreakerMetricsOnly}[mode] {
				t.Errorf("%s: BreakerState() = %q", mode, initial)
			}
			force := func(s resilience.BreakerState) {
				t.Helper()
				if err := m.ForceBreaker("orders", s); err != nil {
					t.Fatal(err)
				}
			}
			force(resilience.BreakerForcedOpen)
			time.Sleep(time.Hour)
			if e := failure(t, ping(t.Context(), m, "orders")); e.Reason != BreakerOpen || e.After != 0 {
				t.Errorf("%s, forced open: %+v", mode, e)
			}
			for _, s := range []resilience.BreakerState{resilience.BreakerDisabled, resilience.BreakerMetricsOnly} {
				force(s)
				b := backend{err: always(errDown)}
				for range 100 {
					_ = b.call(t.Context(), m)
				}
				if state, _ := m.BreakerState("orders"); b.sent != 100 || state != s {
					t.Errorf("%s: %d of 100 calls sent, state %s", s, b.sent, state)
				}
			}
			force(resilience.BreakerClosed)
			if state, _ := m.BreakerState("orders"); state != initial {
				t.Errorf("%s: state after all = %q, want %q", mode, state, initial)
			}
			if m.ForceBreaker("orders", "ajar") == nil {
				t.Error("ForceBreaker() to a state that there is not: no error")
			}
		}
	})
}

func TestThrottleRefusesWhatTheServiceWould(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			name     string
			mode     Switch
			err      error
			throttle bool
		}{
			{"overload", On, classified(resilience.Overload), true},
			{"down", On, errDown, true},
			{"an error that cost the service something", On, &ClassifiedError{Verdict: resilience.Verdict{Outcome: resilience.Success}, Err: errDown}, false},
			{"nobody knows", On, classified(resilience.Neutral), false},
			{"observed", Observe, errDown, false},
		} {
			var told refusals
			m := open(t, Config{Resolver: orders(3), Rand: rand.New(rand.NewPCG(1, 2)).Uint64, Hooks: told.hooks(), Spec: Spec{Defaults: Policy{
				Outlier: Outlier{Mode: Off}, Throttle: Throttle{Mode: c.mode},
			}}})
			b := backend{err: always(c.err)}
			var last error
			for range 1000 {
				if err := b.call(t.Context(), m); errors.Is(err, resilience.ErrThrottled) {
					last = err
				}
			}
			if c.throttle != (b.sent < 20) || c.throttle != (last != nil) {
				t.Errorf("%s: %d of 1000 sent, last refusal %v", c.name, b.sent, last)
			}
			if last != nil {
				if e := failure(t, last); e.Reason != Throttled || e.Sent || e.After <= 0 || e.After > time.Second {
					t.Errorf("%s: error = %+v", c.name, e)
				}
				critical := WithCall(t.Context(), CallOptions{Criticality: resilience.CriticalPlus})
				if err := b.call(critical, m); errors.Is(err, resilience.ErrThrottled) {
					t.Errorf("%s: a call of another criticality is refused", c.name)
				}
			}
			if observed := slices.ContainsFunc(told.list, func(r Refusal) bool { return !r.Enforced }); observed != (c.mode == Observe) {
				t.Errorf("%s: Hooks.Refused was told of refusals that are not enforced: %v", c.name, observed)
			}
			s := m.known()["orders"]
			for _, l := range s.throttle {
				if l != nil && l.Probability(m.now()+time.Hour) != 0 {
					t.Errorf("%s: refuses after an hour", c.name)
				}
			}
		}
	})
}

// An attempt that the breaker refuses after the throttle let it pass says nothing about what the service accepts.
func TestThrottleDoesNotCountWhatTheBreakerRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(3), Spec: Spec{Defaults: Policy{
			Outlier: Outlier{Mode: Off}, Throttle: Throttle{Mode: On}, Retry: Retry{Mode: Off},
		}}})
		b := backend{err: always(errDown)}
		for range 20 {
			_ = b.call(t.Context(), m)
		}
		throttle := m.known()["orders"].throttle[resilience.Critical]
		want := throttle.Probability(m.now())
		if want < 0.5 {
			t.Fatalf("refuses %v of all after 20 failures, want most", want)
		}
		if err := m.ForceBreaker("orders", resilience.BreakerForcedOpen); err != nil {
			t.Fatal(err)
		}
		sent := b.sent
		for range 30 {
			time.Sleep(time.Second) // one a second passes the throttle
			_ = b.call(t.Context(), m)
		}
		if got := throttle.Probability(m.now()); got != want || b.sent != sent {
			t.Errorf("refuses %v of all after 30 attempts of which %d were sent, want %v", got, b.sent-sent, want)
		}
	})
}

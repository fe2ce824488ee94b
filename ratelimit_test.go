package zerohop

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// refusals collects what Hooks.Refused is told.
type refusals struct{ list []Refusal }

func (r *refusals) hooks() Hooks {
	return Hooks{Refused: func(_ context.Context, call CallInfo, refusal Refusal) {
		if call.Service != "orders" {
			panic("no service")
		}
		r.list = append(r.list, refusal)
	}}
}

func limited(l RateLimit) Spec { return Spec{Defaults: Policy{RateLimit: l}} }

func TestRateLimitRefusesCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told refusals
		m := open(t, Config{Resolver: orders(1), Spec: limited(RateLimit{Mode: On, Rate: 10, Burst: 2}), Hooks: told.hooks()})
		for range 2 {
			if err := ping(t.Context(), m, "orders"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(30 * time.Millisecond)
		e := failure(t, ping(t.Context(), m, "orders"))
		if e.Reason != RateLimited || e.Detail != resilience.Refused || !errors.Is(e, resilience.ErrRateLimited) || e.Sent || len(e.Attempts) > 0 {
			t.Errorf("error = %+v, want a refusal of the rate limit", e)
		}
		if got, want := e.After, 70*time.Millisecond; got != want {
			t.Errorf("After = %v, want %v", got, want)
		}
		if got, want := e.Error(), "zerohop: orders: rate limited: resilience: rate limit reached (again in 70ms)"; got != want {
			t.Errorf("Error() = %q, want %q", got, want)
		}
		want := []Refusal{{Stage: StageRateLimit, Enforced: true, Attempt: -1, After: e.After, Err: resilience.ErrRateLimited}}
		if !slices.Equal(told.list, want) {
			t.Errorf("Hooks.Refused got %+v, want %+v", told.list, want)
		}
		time.Sleep(e.After)
		if err := ping(t.Context(), m, "orders"); err != nil {
			t.Errorf("call after the time that the error gave: %v", err)
		}
	})
}

func TestRateLimitThatObservesRefusesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told refusals
		m := open(t, Config{
			Resolver: orders(1), Spec: limited(RateLimit{Mode: Observe, Rate: 10, Burst: 2, MaxWait: 250 * time.Millisecond}), Hooks: told.hooks(),
		})
		for range 10 {
			if err := ping(t.Context(), m, "orders"); err != nil {
				t.Fatal(err)
			}
		}
		if time.Since(m.base) > 0 {
			t.Error("a call waited")
		}
		if len(told.list) != 6 || told.list[0].Enforced {
			t.Errorf("Hooks.Refused got %+v, want six that were not enforced", told.list)
		}
	})
}

func TestCallsWaitForTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(1), Spec: limited(RateLimit{Mode: On, Rate: 10, Burst: 1, MaxWait: time.Second})})
		begin := time.Now()
		var mu sync.Mutex // guards order
		var order []int
		done := make(chan time.Duration, 20)
		for i := range 15 {
			go func() {
				err := ping(t.Context(), m, "orders")
				if i > 10 {
					if e := failure(t, err); e.Reason != RateLimited || e.After != 1100*time.Millisecond {
						t.Errorf("call %d: %+v, want a refusal for 1.1s", i, e)
					}
					done <- 0
					return
				} else if err != nil {
					t.Errorf("call %d: %v", i, err)
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				done <- time.Since(begin)
			}()
			synctest.Wait()
		}
		var last time.Duration
		for range 15 {
			last = max(last, <-done)
		}
		if !slices.IsSorted(order) || last != time.Second {
			t.Errorf("calls went in the order %v and the last after %v, want as they came, until 1s", order, last)
		}
	})
}

func TestCallsThatWaitForTheirTurnEndWithTheirCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(1), Spec: limited(RateLimit{Mode: On, Rate: 1, Burst: 1, MaxWait: time.Minute})})
		if err := ping(t.Context(), m, "orders"); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(t.Context(), 900*time.Millisecond)
		defer cancel()
		start := time.Now()
		if e := failure(t, ping(short, m, "orders")); e.Reason != RateLimited || time.Since(start) > 0 {
			t.Errorf("call that cannot wait so long: %+v after %v, want a refusal at once", e, time.Since(start))
		}
		impatient, cancel := context.WithCancel(t.Context())
		time.AfterFunc(500*time.Millisecond, cancel)
		if e := failure(t, ping(impatient, m, "orders")); e.Reason != Ended || !errors.Is(e, context.Canceled) || time.Since(start) != 500*time.Millisecond {
			t.Errorf("call whose caller went away: %+v after %v", e, time.Since(start))
		}
		if err := ping(t.Context(), m, "orders"); err != nil || time.Since(start) != time.Second {
			t.Errorf("next call: %v after %v, want the turn that was given back", err, time.Since(start))
		}
		go m.Close()
		if e := failure(t, ping(t.Context(), m, "orders")); e.Reason != Closed || time.Since(start) > time.Second {
			t.Errorf("call whose mesh is closed: %+v after %v", e, time.Since(start))
		}
	})
}

func TestRoutesHaveRateLimitsOfTheirOwn(t *testing.T) {
	one := RateLimit{Mode: On, Rate: 1, Burst: 1}
	m := open(t, Config{Resolver: orders(1), Spec: Spec{
		Services: map[string]Policy{"orders": {RateLimit: one}},
		Policies: map[string]Policy{"own": {RateLimit: RateLimit{Burst: 3}}, "other": {Idempotent: On}, "none": {RateLimit: RateLimit{Mode: Off}}},
		Routes: []routing.Rule{
			{Match: routing.Match{Path: routing.Path{Prefix: "/own"}}, Policy: "own"},
			{Match: routing.Match{Path: routing.Path{Prefix: "/other"}}, Policy: "other"},
			{Match: routing.Match{Path: routing.Path{Prefix: "/none"}}, Policy: "none"},
		},
	}})
	passed := map[string]int{}
	for _, path := range []string{"/own", "/other", "/none", "/"} {
		for range 5 {
			target, _, err := m.target(&routing.Request{Service: "orders", Path: path}, new(uint64))
			if err != nil {
				t.Fatal(err)
			}
			c := Call{target: target, ctx: t.Context(), said: &silence}
			if _, err := c.limitRate(0); err == nil {
				passed[path]++
			}
		}
	}
	if passed["/own"] != 3 || passed["/none"] != 5 || passed["/other"] != 1 || passed["/"] != 0 {
		t.Errorf("passed by path: %v, want 3 of the route's own, all without a limit, and one of the service's", passed)
	}
}

// A call that blocks and one that is stepped wait alike, and end alike.
func TestSteppedCallsWaitForTheirTurn(t *testing.T) {
	for _, c := range []struct {
		name    string
		timeout time.Duration
		reason  Reason
		after   time.Duration
	}{
		{"in time", 0, "", 500 * time.Millisecond},
		{"deadline before", 400 * time.Millisecond, RateLimited, 0},
		{"cancelled", -200 * time.Millisecond, Ended, 200 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := open(t, Config{Resolver: orders(1), Spec: limited(RateLimit{Mode: On, Rate: 2, Burst: 1, MaxWait: time.Second})})
				if err := ping(t.Context(), m, "orders"); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				switch {
				case c.timeout > 0:
					ctx, cancel = context.WithTimeout(ctx, c.timeout)
					defer cancel()
				case c.timeout < 0:
					time.AfterFunc(-c.timeout, cancel)
				}
				start := time.Now()
				var call Stepped
				x := stepping{}
				call.Begin(ctx, m, &Request{Request: routing.Request{Service: "orders"}}, &x)
				for !call.Over() && len(x.open) == 0 {
					time.Sleep(min(time.Until(call.Wake()), 100*time.Millisecond))
					synctest.Wait() // for the context to end
					call.Tick()
				}
				for _, a := range x.open {
					call.Answer(a, resilience.Verdict{})
				}
				a, err := call.Result()
				switch {
				case c.reason == "" && err == nil:
					a.End(a.Verdict().Outcome, nil)
				case err == nil || failure(t, err).Reason != c.reason:
					t.Errorf("Result() = %v, %v, want %q", a, err, c.reason)
				}
				if got := time.Since(start); got != c.after {
					t.Errorf("over after %v, want %v", got, c.after)
				}
			})
		})
	}
}

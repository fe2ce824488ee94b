package zerohop

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

func TestCriticalityOfACall(t *testing.T) {
	const (
		none = resilience.Unspecified
		low  = resilience.Sheddable
		plus = resilience.SheddablePlus
		high = resilience.CriticalPlus
	)
	for _, tt := range []struct {
		call, inbound, policy, want resilience.Criticality
	}{
		{none, none, none, resilience.Critical},
		{none, none, low, low},
		{none, plus, low, plus},
		{high, plus, low, high},
		{low, none, none, low},
		{none, high, none, high},
		{99, none, none, high},
	} {
		m := open(t, Config{Resolver: orders(1), Spec: Spec{Defaults: Policy{Criticality: tt.policy}}})
		ctx := t.Context()
		if tt.inbound != none {
			ctx = WithInbound(ctx, &Inbound{Criticality: tt.inbound})
		}
		ctx = WithCall(ctx, CallOptions{Criticality: tt.call})
		send(t, ctx, m, func(a *Attempt) resilience.Verdict {
			if got := a.Criticality(); got != tt.want || a.call.criticality() != got {
				t.Errorf("call %v for a request %v under a policy %v is %v, want %v", tt.call, tt.inbound, tt.policy, got, tt.want)
			}
			a.Status = 0
			return resilience.Verdict{}
		})
	}
}

// A route may have a level of its own, and hooks hear of it.
func TestCriticalityBelongsToRoutesToo(t *testing.T) {
	var told []resilience.Criticality
	m := open(t, Config{
		Resolver: orders(1),
		Spec: Spec{
			Services: map[string]Policy{"orders": {Criticality: resilience.SheddablePlus}},
			Policies: map[string]Policy{"batch": {Criticality: resilience.Sheddable}, "same": {}},
			Routes:   []routing.Rule{{Match: routing.Match{Service: "batch"}, Backends: []routing.Backend{{Service: "orders"}}, Policy: "batch"}, {Match: routing.Match{Service: "other"}, Backends: []routing.Backend{{Service: "orders"}}, Policy: "same"}},
		},
		Hooks: Hooks{CallDone: func(_ context.Context, call CallInfo, _ CallResult) { told = append(told, call.Criticality) }},
	})
	for _, service := range []string{"orders", "batch", "other"} {
		if _, err := Do(t.Context(), m, service, turns(after(0, nil))); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := fmt.Sprint(told), "[sheddable-plus sheddable sheddable-plus]"; got != want {
		t.Errorf("levels = %s, want %s", got, want)
	}
}

func TestLowLevelsGiveUpRetriesAndBackups(t *testing.T) {
	for _, tt := range []struct {
		level    resilience.Criticality
		attempts int // after a failure
		backup   bool
		detail   resilience.Reason
	}{
		{resilience.Sheddable, 1, false, resilience.Uncritical},
		{resilience.SheddablePlus, 3, false, resilience.Exhausted},
		{resilience.Critical, 3, true, resilience.Exhausted},
		{resilience.CriticalPlus, 3, true, resilience.Exhausted},
	} {
		t.Run(tt.level.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := open(t, Config{Resolver: orders(3), Spec: idempotent})
				ctx := WithCall(t.Context(), CallOptions{Criticality: tt.level})
				_, err := Do(ctx, m, "orders", turns(after(0, errDown), after(0, errDown), after(0, errDown)))
				if e := failure(t, err); len(e.Attempts) != tt.attempts || e.Detail != tt.detail {
					t.Errorf("Do() = %v after %d attempts, want %v after %d", e.Detail, len(e.Attempts), tt.detail, tt.attempts)
				}
				start := time.Now()
				got, err := Do(ctx, m, "orders", turns(after(time.Hour, nil), after(0, nil)))
				if backup := time.Since(start) < time.Hour; err != nil || backup != tt.backup {
					t.Errorf("Do() = %d, %v after %v, want a backup: %v", got, err, time.Since(start), tt.backup)
				}
				refused := func(context.Context, *Attempt) resilience.Verdict {
					return resilience.Verdict{Outcome: resilience.Failure, Retry: true, Unsent: true}
				}
				calls := 0
				x := &exchange{attempt: func(ctx context.Context, a *Attempt) resilience.Verdict {
					if calls++; calls == 1 {
						a.Err = errDown
						return refused(ctx, a)
					}
					a.Status = 200
					return resilience.Verdict{}
				}}
				a, err := x.run(ctx, m, Request{Idempotent: true})
				if err != nil || calls != 2 {
					t.Fatalf("what was not sent: %v after %d attempts, want an answer to the second", err, calls)
				}
				if want := tt.level > resilience.Sheddable; a.Repeatable() != want {
					t.Errorf("Repeatable() = %v, want %v", a.Repeatable(), want)
				}
				a.End(resilience.Success, nil)
			})
		})
	}
}

func TestCriticalityIsValidated(t *testing.T) {
	err := Spec{Defaults: Policy{Criticality: 9}}.Validate()
	if want := "defaults.criticality: there is no level 9"; err == nil || err.Error() != want {
		t.Errorf("Validate() = %v, want %q", err, want)
	}
}

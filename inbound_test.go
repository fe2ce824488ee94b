package zerohop

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

func TestServersKnowWhetherTheirCallersShouldRepeat(t *testing.T) {
	fail := resilience.Verdict{Outcome: resilience.Failure, Retry: true}
	for name, tt := range map[string]struct {
		verdict    resilience.Verdict
		idempotent bool
		attempt    int
		tokens     float64 // of the budget
		attempts   int32   // wanted
		spent      bool
	}{
		"success":                   {resilience.Verdict{}, true, 0, 10, 1, false},
		"not worth repeating":       {resilience.Verdict{Outcome: resilience.Failure}, true, 0, 10, 1, false},
		"not safe to repeat":        {fail, false, 0, 10, 1, false},
		"repeated for nothing":      {fail, true, 0, 10, 3, true},
		"no budget":                 {fail, true, 0, 1, 1, true},
		"server wants no retry":     {resilience.Verdict{Outcome: resilience.Failure, Retry: true, After: -1}, true, 0, 10, 1, true},
		"request is repeated":       {fail, true, 1, 10, 1, false},
		"request and call repeated": {resilience.Verdict{Outcome: resilience.Failure, Retry: true, Unsent: true}, true, 1, 10, 3, true},
		"neither way":               {resilience.Verdict{Outcome: resilience.Neutral}, true, 0, 10, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := open(t, Config{Resolver: orders(3), Spec: Spec{Defaults: Policy{Budget: Budget{Tokens: tt.tokens}}}})
				var attempts int32
				x := &exchange{
					attempt: func(_ context.Context, a *Attempt) resilience.Verdict {
						attempts++
						a.Status = 503
						return tt.verdict
					},
				}
				in := &Inbound{Attempt: tt.attempt}
				a, err := x.run(WithInbound(t.Context(), in), m, Request{Idempotent: tt.idempotent})
				if err != nil {
					t.Fatal(err)
				}
				// The server answers before it has read the answer of the call, perhaps.
				if got := in.Spent(); got != tt.spent {
					t.Errorf("Spent() = %v, want %v", got, tt.spent)
				}
				a.End(a.Verdict().Outcome, nil)
				if attempts != tt.attempts || in.Spent() != tt.spent {
					t.Errorf("attempts = %d, Spent() = %v, want %d, %v", attempts, in.Spent(), tt.attempts, tt.spent)
				}
			})
		})
	}
}

func TestCallsForRepeatedRequestsSayWhyTheyAreNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(3), Spec: idempotent})
		ctx := WithInbound(t.Context(), &Inbound{Attempt: 1})
		start := time.Now()
		got, err := Do(ctx, m, "orders", turns(after(time.Hour, nil), after(0, nil)))
		if took := time.Since(start); got != 0 || err != nil || took != time.Hour {
			t.Errorf("Do() = %d, %v after %v, want the first answer without a backup", got, err, took)
		}
		_, err = Do(ctx, m, "orders", turns(after(0, &net.OpError{Op: "dial", Err: errDown}), after(0, errDown)))
		if e := failure(t, err); e.Detail != resilience.Nested || len(e.Attempts) != 2 || e.Attempts[1].Cause != resilience.Resend {
			t.Errorf("Do() = %+v, want %q after an attempt that was not sent and one that was", e, resilience.Nested)
		}
	})
}

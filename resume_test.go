package zerohop

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

var failed = resilience.Verdict{Outcome: resilience.Failure, Retry: true}

// opening makes attempts that are left open.
func opening() *exchange {
	return &exchange{attempt: func(_ context.Context, a *Attempt) resilience.Verdict {
		a.Open()
		return resilience.Verdict{}
	}}
}

func TestResumeRepeatsOpenAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory()
		m := open(t, Config{Resolver: orders(3), Hooks: h.hooks(), Spec: idempotent})
		x := opening()
		a, err := x.run(t.Context(), m, Request{Stream: true})
		if err != nil || a.Number != 0 || !a.Opened() || inFlight(m, "orders") != 1 {
			t.Fatalf("Run() = %+v, %v", a, err)
		}
		time.Sleep(time.Hour) // a backup would have come meanwhile
		first := a.Node()
		a.Status, a.Err = 14, errDown
		b, err := x.Resume(a, failed)
		if err != nil || b.Number != 1 || !b.Opened() || b.Node() == first || inFlight(m, "orders") != 1 {
			t.Fatalf("Resume() = %+v, %v, want an open attempt on another endpoint", b, err)
		}
		b.Status = 0
		if c, err := x.Resume(b, resilience.Verdict{}); err != nil || c != b || c.Opened() || inFlight(m, "orders") != 1 {
			t.Fatalf("Resume() = %+v, %v, want the answer", c, err)
		}
		b.End(resilience.Success, nil)
		if n := inFlight(m, "orders"); n != 0 {
			t.Errorf("in flight afterwards = %d", n)
		}
		h.check(t, 2)
	})
}

func TestResumeGivesUp(t *testing.T) {
	for name, tc := range map[string]struct {
		verdict resilience.Verdict
		status  int
		cancel  bool
		attempt int // whose answer it is
		made    int
		reason  Reason
		detail  resilience.Reason
	}{
		"exhausted":          {failed, 14, false, 2, 3, "", resilience.Exhausted},
		"without a status":   {failed, -1, false, -1, 3, Failed, resilience.Exhausted},
		"not worth a repeat": {resilience.Verdict{Outcome: resilience.Failure}, 13, false, 0, 1, "", resilience.Answered},
		"caller gone":        {failed, 14, true, -1, 1, Ended, resilience.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHistory()
				m := open(t, Config{Resolver: orders(3), Hooks: h.hooks(), Spec: idempotent})
				x := opening()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				a, err := x.run(ctx, m, Request{Stream: true})
				if tc.cancel {
					cancel()
				}
				for err == nil && a.Opened() {
					a.Status, a.Err = tc.status, errDown
					a, err = x.Resume(a, tc.verdict)
				}
				if tc.reason != "" {
					if e := failure(t, err); e.Reason != tc.reason || e.Detail != tc.detail {
						t.Errorf("Resume() = %+v, want %s, %v", e, tc.reason, tc.detail)
					}
				} else {
					if err != nil || a.Number != tc.attempt || x.Failure(a).Detail != tc.detail {
						t.Fatalf("Resume() = %+v, %v, want attempt %d and %v", a, err, tc.attempt, tc.detail)
					}
					a.End(a.Verdict().Outcome, nil)
				}
				if n := inFlight(m, "orders"); n != 0 {
					t.Errorf("in flight afterwards = %d", n)
				}
				h.check(t, tc.made)
			})
		})
	}
}

func TestAttemptIsNotOpenedAfterItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory()
		m := open(t, Config{Resolver: orders(3), Hooks: h.hooks(), Spec: Spec{
			Defaults: Policy{Idempotent: On, AttemptTimeout: time.Second},
		}})
		x := opening()
		opens := x.attempt
		x.attempt = func(ctx context.Context, a *Attempt) resilience.Verdict {
			if a.Number == 0 {
				<-ctx.Done()
			}
			return opens(ctx, a)
		}
		a, err := x.run(t.Context(), m, Request{Stream: true})
		if err != nil || a.Number != 1 || !a.Opened() {
			t.Fatalf("Run() = %+v, %v, want the second attempt", a, err)
		}
		if a, err = x.Resume(a, resilience.Verdict{}); err != nil {
			t.Fatal(err)
		}
		a.End(resilience.Success, nil)
		h.check(t, 2)
	})
}

func TestPanicOfResumeEndsTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory()
		m := open(t, Config{Resolver: orders(1), Hooks: h.hooks(), Classify: func(CallInfo, AttemptResult, resilience.Verdict) resilience.Verdict {
			panic("boom")
		}})
		x := opening()
		a, err := x.run(t.Context(), m, Request{Stream: true})
		if err != nil {
			t.Fatal(err)
		}
		func() {
			defer func() {
				if p := recover(); p != "boom" {
					t.Errorf("panic %v, want that of the user's code", p)
				}
			}()
			_, _ = x.Resume(a, resilience.Verdict{})
		}()
		if n := inFlight(m, "orders"); n != 0 {
			t.Errorf("in flight afterwards = %d", n)
		}
		h.check(t, 1)
	})
}

package zerohop

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

var errDown = errors.New("down")

func TestDo(t *testing.T) {
	dial := &net.OpError{Op: "dial", Net: "tcp", Err: errDown}
	for _, c := range []struct {
		name       string
		errs       []error // of the attempts in turn
		idempotent Switch
		attempts   int
		detail     resilience.Reason
		sent       bool
		outcome    resilience.Outcome
		is         error // nil: success
	}{
		{"success", []error{nil}, Inherit, 1, 0, true, 0, nil},
		{"failure", []error{errDown}, Inherit, 1, resilience.Unsafe, true, resilience.Failure, errDown},
		{"idempotent failure", []error{errDown, nil}, On, 2, 0, true, 0, nil},
		{"idempotent failures", []error{errDown, errDown, errDown}, On, 3, resilience.Exhausted, true, resilience.Failure, errDown},
		{"dial failure", []error{dial, nil}, Inherit, 2, 0, true, 0, nil},
		{"dial failures", []error{dial, dial, dial}, Off, 3, resilience.Exhausted, false, resilience.Failure, errDown},
		{"read failure", []error{&net.OpError{Op: "read", Err: errDown}}, Inherit, 1, resilience.Unsafe, true, resilience.Failure, errDown},
		{"classified as an answer", []error{&ClassifiedError{Err: errDown}}, On, 1, resilience.Answered, true, resilience.Success, errDown},
		{
			"classified as unsent", []error{&ClassifiedError{Verdict: resilience.Verdict{Outcome: resilience.Overload, Retry: true, Unsent: true}, Err: errDown}, nil},
			Inherit, 2, 0, true, 0, nil,
		},
		{
			"classified as final", []error{&ClassifiedError{Verdict: resilience.Verdict{Outcome: resilience.Failure}, Err: errDown}},
			On, 1, resilience.Answered, true, resilience.Failure, errDown,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var result CallResult
				m := open(t, Config{Resolver: orders(3), Hooks: Hooks{CallDone: func(_ context.Context, _ CallInfo, r CallResult) { result = r }}})
				ctx := WithCall(t.Context(), CallOptions{Idempotent: c.idempotent})
				var nodes []string
				got, err := Do(ctx, m, "orders", func(_ context.Context, n *loadbalance.Node) (string, error) {
					nodes = append(nodes, n.Addr())
					return "result of " + n.Addr(), c.errs[len(nodes)-1]
				})
				if len(nodes) != c.attempts || result.Attempts != c.attempts {
					t.Errorf("%d attempts, %d in the hook, want %d", len(nodes), result.Attempts, c.attempts)
				}
				slices.Sort(nodes)
				if len(slices.Compact(nodes)) != c.attempts {
					t.Errorf("attempts went to %v, want different nodes", nodes)
				}
				if n := inFlight(m, "orders"); n != 0 {
					t.Errorf("in flight afterwards = %d", n)
				}
				if c.is == nil {
					if err != nil || got == "" {
						t.Errorf("Do() = %q, %v", got, err)
					}
					return
				}
				e := failure(t, err)
				if got != "" || !errors.Is(err, c.is) || e.Reason != Failed || e.Detail != c.detail || e.Sent != c.sent {
					t.Errorf("Do() = %q, %+v, want detail %q, sent %v", got, e, c.detail, c.sent)
				}
				if result.Outcome != c.outcome || result.Detail != c.detail || !errors.Is(result.Err, c.is) {
					t.Errorf("CallDone got %+v, want outcome %v", result, c.outcome)
				}
				if len(e.Attempts) != c.attempts || e.Attempts[0].Addr == "" || !errors.Is(e.Attempts[0].Err, errDown) {
					t.Errorf("attempts in the error = %+v, want %d", e.Attempts, c.attempts)
				}
			})
		})
	}
}

func TestDoEndsWithItsContext(t *testing.T) {
	errGone := errors.New("the user closed the page")
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(1)}) // or it would go elsewhere instead of pausing
		for _, c := range []struct {
			name     string
			attempts int
			took     time.Duration
			f        func(ctx context.Context) error
		}{
			{"during an attempt", 1, time.Second, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
			{"during an attempt that tells why", 1, time.Second, func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }},
			{"during the pause", 1, 0, func(context.Context) error {
				return &ClassifiedError{Verdict: resilience.Verdict{Outcome: resilience.Overload, Retry: true, After: time.Minute}, Err: errDown}
			}},
		} {
			patient, end := context.WithTimeout(t.Context(), time.Hour) // without a deadline no long pause is taken
			defer end()
			ctx, cancel := context.WithCancelCause(WithCall(patient, CallOptions{Idempotent: On, Backup: Off}))
			time.AfterFunc(time.Second, func() { cancel(errGone) })
			attempts := 0
			start := time.Now()
			_, err := Do(ctx, m, "orders", func(ctx context.Context, _ *loadbalance.Node) (int, error) {
				attempts++
				return 0, c.f(ctx)
			})
			e := failure(t, err)
			if e.Reason != Ended || !errors.Is(err, context.Canceled) || !errors.Is(err, errGone) || attempts != c.attempts {
				t.Errorf("%s: %d attempts, error = %+v, want %v because of %v", c.name, attempts, e, context.Canceled, errGone)
			}
			if got := e.Attempts[0].Duration; got != c.took {
				t.Errorf("%s: the attempt took %v, want %v", c.name, got, c.took)
			}
			if got := time.Since(start); got != time.Second {
				t.Errorf("%s: Do returned after %v, want 1s", c.name, got)
			}
		}

		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errGone)
		_, err := Do(ctx, m, "orders", func(context.Context, *loadbalance.Node) (int, error) {
			t.Error("an attempt was made for a caller that had gone")
			return 0, nil
		})
		if e := failure(t, err); e.Reason != Ended || !errors.Is(err, context.Canceled) || !errors.Is(err, errGone) || e.Sent {
			t.Errorf("error = %+v, want %v because of %v, and not sent", e, context.Canceled, errGone)
		}
	})
}

func TestCauseOfCancellationProvesNothing(t *testing.T) {
	m := open(t, Config{Resolver: orders(1)})
	ctx, cancel := context.WithCancelCause(t.Context())
	neighbour := &net.OpError{Op: "dial", Net: "tcp", Err: errDown}
	_, err := Do(ctx, m, "orders", func(ctx context.Context, _ *loadbalance.Node) (int, error) {
		cancel(neighbour)
		return 0, context.Cause(ctx)
	})
	var e *Error
	if !errors.As(err, &e) || !e.Sent {
		t.Errorf("error = %#v, want one of a call that was sent", err)
	}
}

func TestPausesAndDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(1), Spec: Spec{Defaults: Policy{Budget: Budget{Mode: Off}}}})
		overloaded := func(after time.Duration) error {
			return &ClassifiedError{Verdict: resilience.Verdict{Outcome: resilience.Overload, Retry: true, After: after}, Err: errDown}
		}
		for _, c := range []struct {
			name     string
			after    time.Duration
			deadline time.Duration
			took     time.Duration
			attempts int
			detail   resilience.Reason
		}{
			{"pause that fits", 10 * time.Second, 25 * time.Second, 20 * time.Second, 3, resilience.Exhausted},
			{"pause that does not fit", 10 * time.Second, 5 * time.Second, 0, 1, resilience.OutOfTime},
			{"second pause that does not fit", 10 * time.Second, 15 * time.Second, 10 * time.Second, 2, resilience.OutOfTime},
		} {
			ctx, cancel := context.WithTimeout(WithCall(t.Context(), CallOptions{Idempotent: On}), c.deadline)
			start := time.Now()
			_, err := Do(ctx, m, "orders", func(context.Context, *loadbalance.Node) (int, error) { return 0, overloaded(c.after) })
			e := failure(t, err)
			if took := time.Since(start); took != c.took || len(e.Attempts) != c.attempts || e.Detail != c.detail {
				t.Errorf("%s: %v after %d attempts in %v, want %v after %d in %v", c.name, e.Detail, len(e.Attempts), took, c.detail, c.attempts, c.took)
			}
			cancel()
		}
	})
}

func TestEmptyBudgetEndsRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(3)})
		ctx := WithCall(t.Context(), CallOptions{Idempotent: On})
		attempts := 0
		fail := func(context.Context, *loadbalance.Node) (int, error) { attempts++; return 0, errDown }
		for range 100 {
			_, _ = Do(ctx, m, "orders", fail)
		}
		if attempts > 100+5 {
			t.Errorf("%d attempts of 100 calls, want at most 5 beyond the first ones: half a bucket of 10", attempts)
		}
		_, err := Do(ctx, m, "orders", fail)
		if e := failure(t, err); e.Detail != resilience.OverBudget || !errors.Is(err, errDown) {
			t.Errorf("error = %+v, want the failure itself for want of budget", e)
		}
		off := open(t, Config{Resolver: orders(3), Spec: Spec{Defaults: Policy{Budget: Budget{Mode: Off}}}})
		attempts = 0
		for range 20 {
			_, _ = Do(ctx, off, "orders", fail)
		}
		if attempts != 60 {
			t.Errorf("%d attempts of 20 calls without a budget, want 60", attempts)
		}
		attempts = 0
		_, err = Do(WithCall(ctx, CallOptions{Idempotent: On, Attempts: 99}), off, "orders", fail)
		if failure(t, err); attempts != resilience.MaxAttempts {
			t.Errorf("%d attempts of a call that wants 99, want %d", attempts, resilience.MaxAttempts)
		}
		attempts = 0
		_, err = Do(WithCall(ctx, CallOptions{Idempotent: On, Attempts: 1}), off, "orders", fail)
		if failure(t, err); attempts != 1 {
			t.Errorf("%d attempts of a call that wants 1", attempts)
		}
	})
}

// The error says whose time was over: that of the policy, not of the caller.
func TestTimeoutOfThePolicyIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(1), Spec: Spec{Defaults: Policy{Timeout: 100 * time.Millisecond}}})
		_, err := Do(t.Context(), m, "orders", func(ctx context.Context, _ *loadbalance.Node) (int, error) {
			<-ctx.Done()
			return 0, context.Cause(ctx) // as net/http does
		})
		e := failure(t, err)
		var timeout net.Error
		if cause := errors.Unwrap(e).(interface{ Unwrap() []error }).Unwrap()[1]; !errors.As(cause, &timeout) || !errors.Is(cause, context.DeadlineExceeded) {
			t.Errorf("those who read a body get %T, want a net.Error and a context.DeadlineExceeded", cause)
		}
		if !errors.Is(err, context.DeadlineExceeded) || e.Reason != Ended || !e.Timeout() || !strings.Contains(err.Error(), "call took longer than 100ms") {
			t.Errorf("Do() = %v, %+v, want that the policy allowed 100 ms", err, e)
		}
	})
}

func TestAttemptTimeoutMovesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(2), Spec: Spec{Defaults: Policy{
			AttemptTimeout: 100 * time.Millisecond, Idempotent: On, Backup: Backup{Mode: Off}, Retry: Retry{Attempts: 2, Base: 1, Max: 1},
		}}})
		var nodes []*loadbalance.Node
		start := time.Now()
		_, err := Do(t.Context(), m, "orders", func(ctx context.Context, n *loadbalance.Node) (int, error) {
			nodes = append(nodes, n)
			<-ctx.Done()
			return 0, ctx.Err()
		})
		e := failure(t, err)
		if took := time.Since(start); took > 201*time.Millisecond || !e.Timeout() || errors.Is(err, context.Canceled) {
			t.Errorf("Do() = %+v after %v, want a timeout after two attempts", e, took)
		}
		if len(nodes) != 2 || nodes[0] == nodes[1] || !nodes[0].Penalized(time.Now()) || !nodes[1].Penalized(time.Now()) {
			t.Errorf("attempts went to %v, want two different nodes that are avoided now", nodes)
		}
		got, err := Do(t.Context(), m, "orders", func(context.Context, *loadbalance.Node) (int, error) {
			time.Sleep(150 * time.Millisecond) // deaf to its context
			return 42, nil
		})
		if got != 42 || err != nil {
			t.Errorf("late success = %d, %v, want it to count", got, err)
		}
	})
}

func TestWhoIsToBlameForADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			name      string
			learn     bool
			deadline  time.Duration
			cancel    bool
			penalized bool
		}{
			{"nothing known, short deadline", false, 400 * time.Millisecond, false, false},
			{"nothing known, long deadline", false, 600 * time.Millisecond, false, true},
			{"less than usual", true, time.Millisecond, false, false},
			{"more than usual", true, 40 * time.Millisecond, false, true},
			{"canceled late", true, 40 * time.Millisecond, true, false},
		} {
			m := open(t, Config{Resolver: orders(1), Spec: Spec{Defaults: Policy{
				Breaker: Breaker{Mode: On, Consecutive: 1}, Backup: Backup{Mode: Off},
			}}})
			node := func() *loadbalance.Node { return m.known()["orders"].balancer.Set().Nodes()[0] }
			for range 50 {
				_, err := Do(t.Context(), m, "orders", func(context.Context, *loadbalance.Node) (int, error) {
					if c.learn {
						time.Sleep(20 * time.Millisecond)
					}
					return 0, nil
				})
				if err != nil {
					t.Fatal(err)
				}
				if !c.learn {
					break
				}
			}
			for range 3 {
				ctx, cancel := context.WithTimeout(t.Context(), c.deadline)
				if c.cancel {
					ctx, cancel = context.WithCancel(t.Context())
					time.AfterFunc(c.deadline, cancel)
				}
				_, err := Do(ctx, m, "orders", func(ctx context.Context, _ *loadbalance.Node) (int, error) { <-ctx.Done(); return 0, ctx.Err() })
				failure(t, err)
				cancel()
			}
			if got := node().Penalized(time.Now()); got != c.penalized {
				t.Errorf("%s: node is avoided: %v, want %v", c.name, got, c.penalized)
			}
			if got := node().BreakerState(time.Now()) == "open"; got != c.penalized {
				t.Errorf("%s: breaker is open: %v, want %v", c.name, got, c.penalized)
			}
			m.Close()
		}
	})
}

func TestNeutralAttemptTeachesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(1)})
		_, err := Do(t.Context(), m, "orders", func(context.Context, *loadbalance.Node) (int, error) {
			time.Sleep(time.Minute)
			return 0, &ClassifiedError{Verdict: resilience.Verdict{Outcome: resilience.Neutral}, Err: errDown}
		})
		failure(t, err)
		node := m.known()["orders"].balancer.Set().Nodes()[0]
		if cost, known := node.Cost(time.Now()); known {
			t.Errorf("cost = %v, want none", cost)
		}
	})
}

func TestClassifyHasTheLastWord(t *testing.T) {
	m := open(t, Config{Resolver: orders(2), Classify: func(call CallInfo, r AttemptResult, v resilience.Verdict) resilience.Verdict {
		if call.Service != "orders" || !errors.Is(r.Err, errDown) || v.Outcome != resilience.Failure {
			t.Errorf("Classify(%+v, %+v, %+v)", call, r, v)
		}
		return resilience.Verdict{Outcome: resilience.Success}
	}})
	var node *loadbalance.Node
	_, err := Do(t.Context(), m, "orders", func(_ context.Context, n *loadbalance.Node) (int, error) { node = n; return 0, errDown })
	if !errors.Is(err, errDown) || node.Penalized(time.Now()) {
		t.Errorf("Do() = %v, node avoided: %v, want the error held against nobody", err, node.Penalized(time.Now()))
	}
}

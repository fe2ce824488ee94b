package resilience_test

import (
	"context"
	"database/sql"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

var errBroken = errors.New("broken")

// replies returns a function that returns the errors one after the other, and then none. Its result counts the calls.
func replies(errs ...error) func(context.Context) (int, error) {
	n := 0
	return func(context.Context) (int, error) {
		n++
		if n <= len(errs) {
			return n, errs[n-1]
		}
		return n, nil
	}
}

// hang waits for the end of its context.
func hang(ctx context.Context) (int, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

func TestDoRepeatsWhatIsSafeToRepeat(t *testing.T) {
	dial := &net.OpError{Op: "dial", Err: errBroken}
	retry := &resilience.Retry{}
	answer := func(error) resilience.Verdict { return resilience.Verdict{Outcome: resilience.Success} }
	odd := func(error) resilience.Verdict { return resilience.Verdict{Outcome: resilience.Success, Retry: true} }
	for name, test := range map[string]struct {
		stack  *resilience.Stack
		errs   []error
		want   int
		failed error
		reason resilience.Reason
	}{
		"nil stack":            {nil, []error{errBroken}, 1, errBroken, resilience.Exhausted},
		"zero stack":           {&resilience.Stack{}, nil, 1, nil, 0},
		"no retry":             {&resilience.Stack{Idempotent: true}, []error{errBroken}, 1, errBroken, resilience.Exhausted},
		"first works":          {&resilience.Stack{Retry: retry, Idempotent: true}, nil, 1, nil, 0},
		"second works":         {&resilience.Stack{Retry: retry, Idempotent: true}, []error{errBroken}, 2, nil, 0},
		"none works":           {&resilience.Stack{Retry: retry, Idempotent: true}, []error{errBroken, errBroken, errBroken}, 3, errBroken, resilience.Exhausted},
		"may have been done":   {&resilience.Stack{Retry: retry}, []error{errBroken}, 1, errBroken, resilience.Unsafe},
		"was not sent":         {&resilience.Stack{Retry: retry}, []error{dial}, 2, nil, 0},
		"five attempts":        {&resilience.Stack{Retry: &resilience.Retry{Attempts: 9}, Idempotent: true}, []error{dial, dial, dial, dial, dial, dial}, 5, dial, resilience.Exhausted},
		"an answer":            {&resilience.Stack{Retry: retry, Idempotent: true, Classify: answer}, []error{sql.ErrNoRows}, 1, sql.ErrNoRows, resilience.Answered},
		"an answer worth less": {&resilience.Stack{Retry: retry, Classify: odd}, []error{sql.ErrNoRows}, 1, sql.ErrNoRows, resilience.Answered},
		"budget is empty": {
			&resilience.Stack{Retry: retry, Idempotent: true, Budget: resilience.NewBudget(resilience.BudgetConfig{Tokens: 1})},
			[]error{errBroken}, 1, errBroken, resilience.OverBudget,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got, err := resilience.Do(t.Context(), test.stack, replies(test.errs...))
				if got != test.want || !errors.Is(err, test.failed) {
					t.Errorf("Do() = %d, %v, want %d, %v", got, err, test.want, test.failed)
				}
				e, listed := errors.AsType[*resilience.Error](err)
				if want := test.failed != nil && test.reason != resilience.Answered; listed != want {
					t.Fatalf("error %v is an *Error: %v, want %v", err, listed, want)
				}
				if listed && (e.Reason != test.reason || len(e.Attempts) != test.want) {
					t.Errorf("error has reason %v and %d attempts, want %v and %d", e.Reason, len(e.Attempts), test.reason, test.want)
				}
			})
		})
	}
}

func TestDoRefusedByTheBreakerTellsWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &resilience.Stack{
			Idempotent: true, Retry: &resilience.Retry{},
			Breaker: resilience.NewBreaker(resilience.BreakerConfig{Consecutive: 2, OpenFor: time.Minute}),
		}
		f := replies(errBroken, errBroken)
		got, err := resilience.Do(t.Context(), s, f)
		if got != 2 || !errors.Is(err, errBroken) || !errors.Is(err, resilience.ErrBreakerOpen) {
			t.Errorf("Do() of the call that opens it = %d, %v, want 2 and both errors", got, err)
		}
		begin := time.Now()
		got, err = resilience.Do(t.Context(), s, f)
		if got != 0 || !errors.Is(err, resilience.ErrBreakerOpen) || time.Since(begin) != 0 {
			t.Errorf("Do() while it is open = %d, %v after %v, want a refusal at once", got, err, time.Since(begin))
		}
		time.Sleep(2 * time.Minute)
		if got, err = resilience.Do(t.Context(), s, f); got != 3 || err != nil {
			t.Errorf("Do() of the probe = %d, %v, want 3", got, err)
		}
	})
}

func TestDoLeavesTheBreakerAloneWhereNobodyFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := resilience.NewBreaker(resilience.BreakerConfig{Consecutive: 1})
		s := &resilience.Stack{Breaker: b}
		for _, wait := range []time.Duration{0, time.Millisecond} {
			ctx, cancel := context.WithTimeout(t.Context(), wait) // too short to blame anybody for
			_, err := resilience.Do(ctx, s, hang)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Do() = %v, want the end of its context", err)
			}
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Hour, func() { cancel(errBroken) })
		_, err := resilience.Do(ctx, s, hang)
		if !errors.Is(err, context.Canceled) || !errors.Is(err, errBroken) {
			t.Errorf("Do() = %v, want the cancellation and its cause", err)
		}
		if b.State(resilience.Now()) != "closed" {
			t.Fatalf("breaker is %s after callers went away, want closed", b.State(resilience.Now()))
		}
		s.Timeout = time.Second
		if _, err := resilience.Do(t.Context(), s, hang); !errors.Is(err, context.DeadlineExceeded) || b.State(resilience.Now()) != "open" {
			t.Errorf("Do() of a function that hangs = %v with a breaker %s, want a timeout that opens it", err, b.State(resilience.Now()))
		}
	})
}

func TestDoBoundsCallsAndAttempts(t *testing.T) {
	for name, test := range map[string]struct {
		stack    resilience.Stack
		own      time.Duration // the caller's deadline
		attempts int
		after    time.Duration
		text     string
	}{
		"attempts": {
			resilience.Stack{AttemptTimeout: 100 * time.Millisecond, Idempotent: true, Retry: &resilience.Retry{Attempts: 2}},
			0, 2, 200 * time.Millisecond, "resilience: attempts exhausted after 2 attempts: attempt took longer than 100ms",
		},
		"call": {
			resilience.Stack{Timeout: 150 * time.Millisecond, AttemptTimeout: 100 * time.Millisecond, Idempotent: true, Retry: &resilience.Retry{Attempts: 5}},
			0, 2, 150 * time.Millisecond, "resilience: canceled after 2 attempts: call took longer than 150ms",
		},
		"caller": {resilience.Stack{Timeout: time.Hour}, time.Second, 1, time.Second, "context deadline exceeded"},
		"hedged": {
			resilience.Stack{Timeout: time.Second, Idempotent: true, Hedge: &resilience.Hedge{After: 100 * time.Millisecond}},
			0, 2, time.Second, "resilience: canceled after 2 attempts: call took longer than 1s",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				test.stack.Rand = func() uint64 { return 0 }
				ctx := t.Context()
				if test.own > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.own)
					defer cancel()
				}
				begin := time.Now()
				_, err := resilience.Do(ctx, &test.stack, hang)
				if took := time.Since(begin); took < test.after || took > test.after+time.Millisecond {
					t.Errorf("Do() took %v, want %v", took, test.after)
				}
				e, ok := errors.AsType[*resilience.Error](err)
				if !ok || !e.Timeout() || !errors.Is(err, context.DeadlineExceeded) || len(e.Attempts) != test.attempts || !strings.Contains(err.Error(), test.text) {
					t.Errorf("Do() = %v, want %q after %d attempts", err, test.text, test.attempts)
				}
			})
		})
	}
}

func TestDoEndsItsPausesWithTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		s := &resilience.Stack{
			Idempotent: true, Retry: &resilience.Retry{Backoff: resilience.BackoffConfig{Base: time.Hour, Max: time.Hour}},
			Rand: func() uint64 { return 1 << 63 },
		}
		begin := time.Now()
		got, err := resilience.Do(ctx, s, replies(errBroken))
		if got != 1 || !errors.Is(err, context.Canceled) || !errors.Is(err, errBroken) || time.Since(begin) != 10*time.Millisecond {
			t.Errorf("Do() = %d, %v after %v, want the cancellation and the failure after 10ms", got, err, time.Since(begin))
		}
	})
}

func TestDoOrAnswersForWhatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stock := func(context.Context, error) (int, error) { return 42, nil }
		open := resilience.NewBreaker(resilience.BreakerConfig{Consecutive: 1, OpenFor: time.Hour})
		for name, test := range map[string]struct {
			stack *resilience.Stack
			f     func(context.Context) (int, error)
			want  int
			err   error
		}{
			"answer":  {&resilience.Stack{}, replies(), 1, nil},
			"failure": {&resilience.Stack{}, replies(errBroken), 42, nil},
			"timeout": {&resilience.Stack{Timeout: time.Second}, hang, 42, nil},
			"refused": {&resilience.Stack{Breaker: open}, replies(), 42, nil},
			"answer that is an error": {
				&resilience.Stack{Classify: func(error) resilience.Verdict { return resilience.Verdict{} }}, replies(sql.ErrNoRows), 1, sql.ErrNoRows,
			},
		} {
			p, _ := open.Allow(resilience.Now())
			p.Done(resilience.Now(), resilience.Failure, 0)
			if got, err := resilience.DoOr(t.Context(), test.stack, test.f, stock); got != test.want || !errors.Is(err, test.err) {
				t.Errorf("%s: DoOr() = %d, %v, want %d, %v", name, got, err, test.want, test.err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if got, err := resilience.DoOr(ctx, &resilience.Stack{}, hang, stock); got != 0 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("DoOr() for a caller who has gone = %d, %v, want his deadline", got, err)
		}
		_, err := resilience.DoOr(t.Context(), &resilience.Stack{Timeout: time.Second}, hang, func(ctx context.Context, err error) (int, error) {
			if e, ok := errors.AsType[*resilience.Error](err); !ok || len(e.Attempts) != 1 || ctx.Err() == nil {
				t.Errorf("fallback got %v with time left: %v, want the error of a call that used up its time", err, ctx.Err() == nil)
			}
			return 0, err
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("DoOr() without an answer = %v, want the error of the call", err)
		}
	})
}

func TestDoWaitsForItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &resilience.Stack{RateLimit: resilience.NewRateLimit(resilience.RateLimitConfig{Rate: 10, Burst: 1}), MaxWait: 150 * time.Millisecond}
		begin := time.Now()
		for _, want := range []time.Duration{0, 100 * time.Millisecond} {
			if _, err := resilience.Do(t.Context(), s, replies()); err != nil || time.Since(begin) != want {
				t.Errorf("Do() = %v after %v, want its turn after %v", err, time.Since(begin), want)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := resilience.Do(ctx, s, replies()); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, resilience.ErrRateLimited) {
			t.Errorf("Do() = %v, want the deadline of a caller who waited", err)
		}
		s.MaxWait = 10 * time.Millisecond // 50 are left: the one who went away gave its turn back
		_, err := resilience.Do(t.Context(), s, replies())
		if e, ok := errors.AsType[*resilience.Error](err); !ok || !errors.Is(err, resilience.ErrRateLimited) || e.After != 50*time.Millisecond || len(e.Attempts) != 0 {
			t.Errorf("Do() = %v, want a refusal for 50ms", err)
		}
	})
}

func TestDoBoundsWhatIsUnderWay(t *testing.T) {
	for _, hedge := range []*resilience.Hedge{nil, {After: time.Hour}} {
		synctest.Test(t, func(t *testing.T) {
			limit := resilience.NewLimit(resilience.LimitConfig{Max: 1, Queue: 1}, nil)
			s := &resilience.Stack{Limit: limit, Idempotent: true, Hedge: hedge}
			first, second := make(chan error, 1), make(chan error, 1)
			go func() {
				defer func() { first <- recover().(error) }()
				_ = s.Run(t.Context(), func(context.Context) error { time.Sleep(time.Second / 2); panic(errBroken) })
			}()
			synctest.Wait()
			go func() {
				_, err := resilience.Do(t.Context(), s, replies())
				second <- err
			}()
			synctest.Wait()
			_, err := resilience.Do(t.Context(), s, replies())
			if e, ok := errors.AsType[*resilience.Error](err); !ok || !errors.Is(err, resilience.ErrLimited) || e.Reason != resilience.Refused {
				t.Errorf("Do() of the third = %v, want a refusal", err)
			}
			if err := <-first; !errors.Is(err, errBroken) {
				t.Errorf("the first panicked with %v, want %v", err, errBroken)
			}
			if err := <-second; err != nil {
				t.Errorf("Do() of the second = %v, want an answer after it has waited", err)
			}
			if n := limit.State().InFlight; n != 0 {
				t.Errorf("%d calls are in flight in the end, want none", n)
			}
		})
	}
}

func TestDoIsThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &resilience.Stack{
			Throttle: resilience.NewThrottle(resilience.ThrottleConfig{}),
			Breaker:  resilience.NewBreaker(resilience.BreakerConfig{Consecutive: 1000, Ratio: 1, MinRequests: 1000}),
			Rand:     func() uint64 { return 1 << 60 },
		}
		made := 0
		for range 100 {
			err := s.Run(t.Context(), func(context.Context) error { made++; return errBroken })
			if !errors.Is(err, errBroken) && !errors.Is(err, resilience.ErrThrottled) {
				t.Fatalf("Run() = %v, want a failure or a refusal", err)
			}
		}
		if made < 1 || made > 50 {
			t.Errorf("%d of 100 calls that fail were made, want few", made)
		}
		for range 100 { // an open breaker gives back what the throttle gave
			_ = s.Run(t.Context(), func(context.Context) error { return nil })
			time.Sleep(2 * time.Second)
		}
		if p := s.Throttle.Probability(100 * 365 * 24 * time.Hour); p != 0 {
			t.Errorf("calls are refused with probability %v in the end, want 0", p)
		}
	})
}

func TestSheddableCallsAreNotRepeated(t *testing.T) {
	for level, want := range map[resilience.Criticality]int{
		resilience.Sheddable: 1, resilience.SheddablePlus: 2, resilience.Critical: 2, resilience.Unspecified: 2,
	} {
		s := &resilience.Stack{Idempotent: true, Criticality: level, Retry: &resilience.Retry{Backoff: resilience.BackoffConfig{Base: 1}}}
		if got, err := resilience.Do(t.Context(), s, replies(errBroken)); got != want {
			t.Errorf("%v: Do() = %d, %v, want %d attempts", level, got, err, want)
		}
	}
}

func TestRunReturnsTheErrorOnly(t *testing.T) {
	s := &resilience.Stack{}
	if err := s.Run(t.Context(), func(context.Context) error { return nil }); err != nil {
		t.Errorf("Run() = %v, want nil", err)
	}
	if err := s.Run(t.Context(), func(context.Context) error { return errBroken }); !errors.Is(err, errBroken) {
		t.Errorf("Run() = %v, want %v", err, errBroken)
	}
}

func TestDoAllocatesLittle(t *testing.T) {
	if testing.CoverMode() != "" {
		t.Skip("coverage allocates")
	}
	ctx := t.Context()
	f := func(context.Context) (int, error) { return 1, nil }
	for name, test := range map[string]struct {
		stack resilience.Stack
		want  float64
	}{
		"retry and budget": {resilience.Stack{Idempotent: true, Retry: &resilience.Retry{}, Budget: resilience.NewBudget(resilience.BudgetConfig{})}, 0},
		"timeout":          {resilience.Stack{Timeout: time.Minute}, 5},
	} {
		if got := testing.AllocsPerRun(100, func() { _, _ = resilience.Do(ctx, &test.stack, f) }); got > test.want {
			t.Errorf("%s: Do() allocates %v times, want %v at most", name, got, test.want)
		}
	}
}

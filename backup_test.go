package zerohop

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// turns gives every attempt of a call its own function, in the order in which they begin.
func turns(fs ...func(ctx context.Context) error) func(context.Context, *loadbalance.Node) (int, error) {
	var n atomic.Int64
	return func(ctx context.Context, _ *loadbalance.Node) (int, error) {
		i := int(n.Add(1)) - 1
		return i, fs[i](ctx)
	}
}

func hang(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

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

func panics(context.Context) error { panic("boom") }

var idempotent = Spec{Defaults: Policy{Idempotent: On, Retry: Retry{Base: 1, Max: 1}}}

func TestBackups(t *testing.T) {
	for _, c := range []struct {
		name     string
		nodes    int
		options  CallOptions
		deadline time.Duration // 0: none
		attempts []func(context.Context) error
		answer   int // attempt, -1 if none
		took     time.Duration
		reason   Reason
		is       error
	}{
		{"hung attempt", 2, CallOptions{}, 0, []func(context.Context) error{hang, after(0, nil)}, 1, time.Second, "", nil},
		{"half of the deadline", 2, CallOptions{}, 600 * time.Millisecond, []func(context.Context) error{hang, after(0, nil)}, 1, 300 * time.Millisecond, "", nil},
		{"first wins after all", 2, CallOptions{}, 0, []func(context.Context) error{after(1500*time.Millisecond, nil), hang}, 0, 1500 * time.Millisecond, "", nil},
		{"backup fails, first succeeds", 2, CallOptions{}, 0, []func(context.Context) error{after(1500*time.Millisecond, nil), after(0, errDown)}, 0, 1500 * time.Millisecond, "", nil},
		{"first fails, backup succeeds", 2, CallOptions{}, 0, []func(context.Context) error{after(1100*time.Millisecond, errDown), after(time.Second/2, nil)}, 1, 1500 * time.Millisecond, "", nil},
		{"both fail, third succeeds", 3, CallOptions{}, 0, []func(context.Context) error{after(1100*time.Millisecond, errDown), after(time.Second/2, errDown), after(0, nil)}, 2, 1500 * time.Millisecond, "", nil},
		{"both fail", 2, CallOptions{Attempts: 2}, 0, []func(context.Context) error{after(1100*time.Millisecond, errDown), after(time.Second/2, errDown)}, -1, 1500 * time.Millisecond, Failed, errDown},
		{"both fail at the same time", 2, CallOptions{Attempts: 2}, 0, []func(context.Context) error{after(1500*time.Millisecond, errDown), after(time.Second/2, errDown)}, -1, 1500 * time.Millisecond, Failed, errDown},
		{"two backups", 3, CallOptions{}, 0, []func(context.Context) error{hang, hang, after(0, nil)}, 2, 2 * time.Second, "", nil},
		{"all hang", 3, CallOptions{}, 4 * time.Second, []func(context.Context) error{hang, hang, hang}, -1, 4 * time.Second, Ended, context.DeadlineExceeded},
		{"one node", 1, CallOptions{}, 0, []func(context.Context) error{after(3*time.Second, nil)}, 0, 3 * time.Second, "", nil},
		{"off", 2, CallOptions{Backup: Off}, 0, []func(context.Context) error{after(3*time.Second, nil)}, 0, 3 * time.Second, "", nil},
		{"not idempotent", 2, CallOptions{Idempotent: Off}, 0, []func(context.Context) error{after(3*time.Second, nil)}, 0, 3 * time.Second, "", nil},
		{"one attempt", 2, CallOptions{Attempts: 1}, 0, []func(context.Context) error{after(3*time.Second, nil)}, 0, 3 * time.Second, "", nil},
		{"backup panics, first succeeds", 2, CallOptions{}, 0, []func(context.Context) error{after(1500*time.Millisecond, nil), panics}, 0, 1500 * time.Millisecond, "", nil},
		{"backup panics, first fails", 2, CallOptions{Attempts: 2}, 0, []func(context.Context) error{after(1500*time.Millisecond, errDown), panics}, -1, 1500 * time.Millisecond, Failed, errDown},
		{"first fails, backup panics", 2, CallOptions{Attempts: 2}, 0, []func(context.Context) error{after(1100*time.Millisecond, errDown), func(ctx context.Context) error { time.Sleep(time.Second); panic("boom") }}, -1, 2 * time.Second, Failed, errPanicked},
		{"backup leaves its goroutine", 2, CallOptions{}, 0, []func(context.Context) error{after(1500*time.Millisecond, nil), func(context.Context) error { runtime.Goexit(); return nil }}, 0, 1500 * time.Millisecond, "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHistory()
				m := open(t, Config{Resolver: orders(c.nodes), Spec: idempotent, Hooks: h.hooks()})
				ctx := WithCall(t.Context(), c.options)
				if c.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.deadline)
					defer cancel()
				}
				start := time.Now()
				got, err := Do(ctx, m, "orders", turns(c.attempts...))
				if took := time.Since(start); took < c.took || took > c.took+time.Millisecond {
					t.Errorf("Do returned after %v, want %v", took, c.took)
				}
				if c.answer >= 0 && (err != nil || got != c.answer) {
					t.Errorf("Do() = attempt %d, %v, want %d", got, err, c.answer)
				}
				if c.answer < 0 {
					e := failure(t, err)
					if e.Reason != c.reason || !errors.Is(err, c.is) || len(e.Attempts) != len(c.attempts) {
						t.Errorf("Do() = %+v, want reason %q, error %v, %d attempts", e, c.reason, c.is, len(c.attempts))
					}
				}
				synctest.Wait()
				if n := inFlight(m, "orders"); n != 0 {
					t.Errorf("in flight afterwards = %d", n)
				}
				h.check(t, len(c.attempts))
			})
		})
	}
}

func TestBackupComesAfterTheLearnedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(2), Spec: Spec{Defaults: Policy{Idempotent: On, Backup: Backup{Factor: 3}}}})
		for range 100 {
			if _, err := Do(t.Context(), m, "orders", turns(after(100*time.Millisecond, nil))); err != nil {
				t.Fatal(err)
			}
		}
		start := time.Now()
		var first atomic.Pointer[loadbalance.Node]
		_, err := Do(t.Context(), m, "orders", func(ctx context.Context, n *loadbalance.Node) (int, error) {
			if first.CompareAndSwap(nil, n) {
				return 0, hang(ctx)
			}
			return 0, nil
		})
		hung := first.Load()
		// Three times the 99th percentile, which is at most an eighth too high.
		if took := time.Since(start); err != nil || took < 300*time.Millisecond || took > 340*time.Millisecond {
			t.Errorf("backup answered after %v, %v, want about 300 ms", took, err)
		}
		if hung.InFlight() != 0 {
			t.Errorf("in flight on the hung node = %d", hung.InFlight())
		}
		again := 0
		for range 100 {
			_, _ = Do(t.Context(), m, "orders", func(_ context.Context, n *loadbalance.Node) (int, error) {
				if n == hung {
					again++
				}
				return 0, nil
			})
		}
		if again > 20 {
			t.Errorf("%d of 100 calls went to the node that hung", again)
		}
	})
}

func TestEmptyBudgetEndsBackups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(3), Spec: Spec{Defaults: Policy{Idempotent: On, Budget: Budget{Tokens: 2}, Retry: Retry{Attempts: 2}}}})
		// As long as backups win they are free. One that loses costs 2 of 2, and none is granted before more than 1 is left:
		// a success pays 0.1.
		for i := range 17 {
			first, second, attempts := 3*time.Second, time.Duration(0), 1
			if i >= 5 {
				first, second = 1500*time.Millisecond, time.Minute
			}
			if i <= 5 || i == 16 {
				attempts = 2
			}
			began := time.Now()
			ctx, report := WithReport(t.Context())
			if _, err := Do(ctx, m, "orders", turns(after(first, nil), after(second, nil))); err != nil {
				t.Fatal(err)
			}
			took, want := time.Since(began), min(first, time.Second+second)
			if got := len(report.Calls()[0].Attempts); got != attempts || took != want {
				t.Errorf("call %d took %v and %d attempts, want %v and %d", i, took, got, want, attempts)
			}
		}
	})
}

func TestBackupsThatCannotBeMadeCostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(1), Spec: idempotent})
		for range 20 {
			if _, err := Do(t.Context(), m, "orders", turns(after(2500*time.Millisecond, nil))); err != nil {
				t.Fatal(err)
			}
		}
		if got := m.known()["orders"].budget.Level(); got != 1 {
			t.Errorf("budget after slow calls to a lone node = %v, want 1", got)
		}
	})
}

func TestCallerLeavesWhileBackupsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory()
		m := open(t, Config{Resolver: orders(3), Spec: idempotent, Hooks: h.hooks()})
		for _, first := range []func(context.Context) error{hang, after(1100*time.Millisecond, errDown)} {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(1200*time.Millisecond, cancel)
			start := time.Now()
			_, err := Do(ctx, m, "orders", turns(first, hang, hang))
			if e := failure(t, err); e.Reason != Ended || !errors.Is(err, context.Canceled) || !e.Sent || len(e.Attempts) != 2 {
				t.Errorf("Do() = %+v, want canceled after two attempts", e)
			}
			if took := time.Since(start); took != 1200*time.Millisecond {
				t.Errorf("Do returned after %v, want 1.2s", took)
			}
			synctest.Wait()
			if n := inFlight(m, "orders"); n != 0 {
				t.Errorf("in flight afterwards = %d", n)
			}
			h.check(t, 2)
		}
	})
}

func TestCallerDoesNotWaitForALoserThatIsDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(2), Spec: idempotent})
		deaf := func(context.Context) error { time.Sleep(10 * time.Second); return nil }
		start := time.Now()
		got, err := Do(t.Context(), m, "orders", turns(after(1500*time.Millisecond, nil), deaf))
		if took := time.Since(start); got != 0 || err != nil || took != 1500*time.Millisecond {
			t.Errorf("Do() = %d, %v after %v", got, err, took)
		}
		start = time.Now()
		m.Close()
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("Close took %v", took)
		}
	})
}

func TestPanicInTheCallersGoroutineReachesTheCaller(t *testing.T) {
	for name, cfg := range map[string]Config{
		"transport":    {},
		"AttemptStart": {Hooks: Hooks{AttemptStart: func(context.Context, CallInfo, AttemptInfo) context.Context { panic("boom") }}},
		"AttemptDone":  {Hooks: Hooks{AttemptDone: func(context.Context, CallInfo, AttemptInfo, AttemptResult) { panic("boom") }}},
		"Classify":     {Classify: func(CallInfo, AttemptResult, resilience.Verdict) resilience.Verdict { panic("boom") }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				done := 0
				cfg.Resolver, cfg.Spec = orders(2), idempotent
				cfg.Hooks.CallDone = func(_ context.Context, _ CallInfo, r CallResult) {
					if done++; !errors.Is(r.Err, errPanicked) && name != "AttemptDone" {
						t.Errorf("CallDone got %+v, want %v", r, errPanicked)
					}
				}
				m := open(t, cfg)
				func() {
					defer func() {
						if p := recover(); p != "boom" {
							t.Errorf("recovered %v, want boom", p)
						}
					}()
					_, _ = Do(t.Context(), m, "orders", turns(func(context.Context) error {
						if name == "transport" {
							panic("boom")
						}
						return nil
					}))
				}()
				if n := inFlight(m, "orders"); n != 0 {
					t.Errorf("in flight afterwards = %d", n)
				}
				if done != 1 {
					t.Errorf("CallDone was called %d times, want once", done)
				}
			})
		})
	}
}

func TestPanicOfTheFirstAttemptEndsItsBackup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(2), Spec: idempotent})
		defer func() {
			if p := recover(); p != "boom" {
				t.Errorf("recovered %v, want boom", p)
			}
			synctest.Wait()
			if n := inFlight(m, "orders"); n != 0 {
				t.Errorf("in flight afterwards = %d", n)
			}
		}()
		_, _ = Do(t.Context(), m, "orders", turns(func(context.Context) error { time.Sleep(2 * time.Second); panic("boom") }, hang))
	})
}

func TestCloseGivesUpBackups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(2), Spec: idempotent})
		time.AfterFunc(1100*time.Millisecond, func() {
			start := time.Now()
			m.Close()
			if took := time.Since(start); took > 0 {
				t.Errorf("Close waited %v for a call", took)
			}
		})
		got, err := Do(t.Context(), m, "orders", turns(after(5*time.Second, nil), hang))
		if got != 0 || err != nil {
			t.Errorf("Do() = attempt %d, %v, want the first to go on", got, err)
		}
	})
}

// history checks that hooks are called as they promise.
type history struct {
	mu    sync.Mutex
	calls map[int]*callHistory
	next  int
}

type callHistory struct {
	started, done      int
	attempts, finished map[int]int
	result             CallResult
	mistakes           []string
}

func newHistory() *history { return &history{calls: map[int]*callHistory{}} }

type (
	callKey    struct{}
	attemptKey struct{}
)

func (h *history) hooks() Hooks {
	return Hooks{
		CallStart: func(ctx context.Context, call CallInfo) context.Context {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.next++
			h.calls[h.next] = &callHistory{started: 1, attempts: map[int]int{}, finished: map[int]int{}}
			return context.WithValue(ctx, callKey{}, h.next)
		},
		CallDone: func(ctx context.Context, call CallInfo, r CallResult) {
			h.with(ctx, func(c *callHistory) { c.done++; c.result = r })
		},
		AttemptStart: func(ctx context.Context, call CallInfo, a AttemptInfo) context.Context {
			h.with(ctx, func(c *callHistory) {
				c.attempts[a.Number]++
				if a.Node == nil || call.Service != "orders" || call.Start.IsZero() {
					c.mistakes = append(c.mistakes, "AttemptStart without its facts")
				}
			})
			return context.WithValue(ctx, attemptKey{}, a.Number)
		},
		AttemptDone: func(ctx context.Context, call CallInfo, a AttemptInfo, r AttemptResult) {
			h.with(ctx, func(c *callHistory) {
				c.finished[a.Number]++
				if ctx.Value(attemptKey{}) != a.Number {
					c.mistakes = append(c.mistakes, "AttemptDone with the context of another attempt")
				}
				if r.Duration < r.Latency {
					c.mistakes = append(c.mistakes, "attempt ended before it was answered")
				}
			})
		},
	}
}

func (h *history) with(ctx context.Context, f func(*callHistory)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(h.calls[ctx.Value(callKey{}).(int)])
}

// check checks all calls so far, each of which made so many attempts; -1 means any number.
func (h *history) check(t *testing.T, attempts int) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, c := range h.calls {
		if c.done != 1 {
			t.Errorf("call %d: CallDone was called %d times, want once", i, c.done)
		}
		if attempts >= 0 && len(c.attempts) != attempts {
			t.Errorf("call %d: %d attempts, want %d", i, len(c.attempts), attempts)
		}
		if c.result.Attempts != len(c.attempts) {
			t.Errorf("call %d: CallDone tells of %d attempts, want %d", i, c.result.Attempts, len(c.attempts))
		}
		for n, times := range c.attempts {
			if times != 1 || c.finished[n] != 1 {
				t.Errorf("call %d: attempt %d started %d times and ended %d times, want once each", i, n, times, c.finished[n])
			}
		}
		if len(c.finished) > len(c.attempts) || len(c.mistakes) > 0 {
			t.Errorf("call %d: %s", i, strings.Join(c.mistakes, ", "))
		}
	}
}

func TestBackupComesInTimeForTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(2), Spec: idempotent})
		for range 100 {
			if _, err := Do(t.Context(), m, "orders", turns(after(600*time.Millisecond, nil))); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		start := time.Now()
		got, err := Do(ctx, m, "orders", turns(hang, after(600*time.Millisecond, nil)))
		if took, want := time.Since(start), 1600*time.Millisecond; err != nil || got != 1 || took != want {
			t.Errorf("Do() = attempt %d, %v after %v, want 1 after %v", got, err, took, want)
		}
	})
}

package zerohop

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// Whatever attempts do, hooks are called as promised, calls end in time and nothing stays behind.
func TestRandomCallsKeepTheirPromises(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3, 4} {
		synctest.Test(t, func(t *testing.T) {
			h := newHistory()
			m := open(t, Config{Resolver: orders(4), Hooks: h.hooks(), Spec: Spec{Defaults: Policy{Budget: Budget{Mode: Off}}}})
			var calls sync.WaitGroup
			for i := range uint64(500) {
				rnd := rand.New(rand.NewPCG(seed, i))
				// A tenth of a second is the grain of everything, so that many things happen at the same time.
				delay := func(n int) time.Duration { return time.Duration(rnd.IntN(n)) * 100 * time.Millisecond }
				var scripts [resilience.MaxAttempts]func(context.Context) error
				for k := range scripts {
					scripts[k] = []func(context.Context) error{
						hang, after(delay(20), nil), after(delay(20), errDown), panics,
						after(delay(5), &ClassifiedError{Verdict: resilience.Verdict{Outcome: resilience.Overload, Retry: true, After: delay(5)}, Err: errDown}),
						after(delay(5), &ClassifiedError{Verdict: resilience.Verdict{Outcome: resilience.Failure, Retry: true, Unsent: true}, Err: errDown}),
					}[rnd.IntN(6)]
				}
				options := CallOptions{
					Attempts: rnd.IntN(6), AttemptTimeout: delay(8), Timeout: 3 * time.Second,
					Idempotent: []Switch{On, Off}[rnd.IntN(2)], Backup: []Switch{On, Off}[rnd.IntN(2)],
				}
				patience := time.Hour
				if rnd.IntN(3) == 0 {
					patience = delay(20)
				}
				start := delay(50)
				calls.Go(func() {
					time.Sleep(start)
					ctx, cancel := context.WithCancel(WithCall(t.Context(), options))
					defer cancel()
					defer time.AfterFunc(patience, cancel).Stop()
					begun := time.Now()
					defer func() {
						if p := recover(); p != nil && p != "boom" {
							panic(p)
						}
						if took, most := time.Since(begun), min(patience, 3*time.Second); took > most {
							t.Errorf("seed %d: call %d took %v, want at most %v", seed, i, took, most)
						}
					}()
					k, err := Do(ctx, m, "orders", turns(scripts[:]...))
					if err != nil {
						failure(t, err)
					} else if k < 0 || k >= resilience.MaxAttempts {
						t.Errorf("seed %d: call %d: answer %d", seed, i, k)
					}
				})
			}
			calls.Wait()
			synctest.Wait()
			if n := inFlight(m, "orders"); n != 0 {
				t.Errorf("seed %d: in flight afterwards = %d", seed, n)
			}
			h.check(t, -1)
			if m.overdue.busy() {
				t.Errorf("seed %d: the watchdog still watches a call", seed)
			}
		})
	}
}

// exchange is an Exchange made of functions.
type exchange struct {
	Call
	attempt func(context.Context, *Attempt) resilience.Verdict
	release func(*Attempt)
}

func (x *exchange) Attempt(ctx context.Context, a *Attempt) resilience.Verdict {
	return x.attempt(ctx, a)
}

func (x *exchange) Release(a *Attempt) {
	if x.release != nil {
		x.release(a)
	}
}

func (x *exchange) run(ctx context.Context, m *Mesh, r Request) (*Attempt, error) {
	r.Service = "orders"
	return x.Run(ctx, m, &r, x)
}

func TestAnswerThatIsBeingReleasedIsNotHandedOut(t *testing.T) {
	for _, keeps := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			m := open(t, Config{Resolver: orders(2), Spec: idempotent})
			// The first attempt fails at 1,500 ms and is released until 1,600 ms, the backup fails at 1,510 ms and is
			// released until 1,710 ms. A pause of 50 ms would fit, but when the caller's goroutine comes to it there is
			// no time left: the answer is that of the backup.
			ends := []time.Duration{1500 * time.Millisecond, 1510 * time.Millisecond}
			releases := []time.Duration{100 * time.Millisecond, 200 * time.Millisecond}
			start := time.Now()
			x := &exchange{
				attempt: func(_ context.Context, a *Attempt) resilience.Verdict {
					time.Sleep(time.Until(start.Add(ends[a.Number])))
					a.Status = 503
					return resilience.Verdict{Outcome: resilience.Failure, Retry: true, After: 50 * time.Millisecond}
				},
				release: func(a *Attempt) {
					time.Sleep(releases[a.Number])
					if !keeps {
						a.Status, a.Err = -1, errDown
					}
				},
			}
			ctx, cancel := context.WithTimeout(t.Context(), 1600500*time.Microsecond)
			defer cancel()
			a, err := x.run(ctx, m, Request{})
			if took := time.Since(start); took != 1710*time.Millisecond {
				t.Errorf("Run returned after %v, want 1.71s: when the answer was released", took)
			}
			switch {
			case !keeps:
				if e := failure(t, err); !errors.Is(err, errDown) || e.Detail != resilience.OutOfTime || len(e.Attempts) != 2 {
					t.Errorf("Run() = %+v, want that the answer is gone", e)
				}
			case err != nil || a.Number != 1 || a.Status != 503:
				t.Errorf("Run() = %+v, %v, want the answer of the backup", a, err)
			}
			if n := inFlight(m, "orders"); n != 0 {
				t.Errorf("in flight afterwards = %d", n)
			}
		})
	}
}

func TestKeptAnswerBecomesTheCallsWhenNoTimeIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory()
		m := open(t, Config{Resolver: orders(2), Spec: Spec{Defaults: Policy{Backup: Backup{Mode: Off}}}, Hooks: h.hooks()})
		released := 0
		x := &exchange{
			attempt: func(_ context.Context, a *Attempt) resilience.Verdict {
				a.Status = 503
				return resilience.Verdict{Outcome: resilience.Overload, Retry: true, After: 50 * time.Millisecond}
			},
			release: func(*Attempt) {
				released++
				time.Sleep(80 * time.Millisecond) // longer than the pause
			},
		}
		ctx, cancel := context.WithTimeout(t.Context(), 80500*time.Microsecond)
		defer cancel()
		a, err := x.run(ctx, m, Request{Idempotent: true})
		if err != nil || a.Status != 503 || a.Number != 0 || released != 1 {
			t.Fatalf("Run() = %+v, %v, want the answer that was released", a, err)
		}
		a.End(resilience.Overload, nil)
		h.check(t, 1)
	})
}

func TestLatePickAndRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(2), Spec: idempotent})
		set := func() *loadbalance.Set { return m.known()["orders"].balancer.Set() }
		x := &exchange{attempt: func(_ context.Context, a *Attempt) resilience.Verdict {
			first, err := a.Pick(set(), set())
			if err != nil {
				t.Fatal(err)
			}
			second, err := a.Pick(set(), set())
			if err != nil || first == second || first.InFlight() != 0 || second.InFlight() != 1 || a.Node() != second {
				t.Errorf("second pick = %v, %v, want the other node and the first one free", second, err)
			}
			return resilience.Verdict{}
		}}
		a, err := x.run(t.Context(), m, Request{LatePick: true, Request: routing.Request{Method: "GET"}})
		if err != nil {
			t.Fatal(err)
		}
		if a.Service() != "orders" || a.Policy().Idempotent != On || a.Backup() {
			t.Errorf("attempt of %q, policy %+v", a.Service(), a.Policy())
		}
		a.End(resilience.Success, nil)
		a.End(resilience.Failure, nil)

		refusal := errors.New("no connection")
		x = &exchange{attempt: func(_ context.Context, a *Attempt) resilience.Verdict {
			a.Refuse(refusal)
			return resilience.Verdict{Outcome: resilience.Failure, Retry: true}
		}}
		_, err = x.run(t.Context(), m, Request{LatePick: true})
		if e := failure(t, err); e.Reason != NoEndpoints || !errors.Is(err, refusal) || e.Sent || len(e.Attempts) != 0 {
			t.Errorf("error = %+v, want no endpoints because of the refusal", e)
		}

		x = &exchange{attempt: func(_ context.Context, a *Attempt) resilience.Verdict {
			a.Status, a.Err = 14, errDown
			return resilience.Verdict{Outcome: resilience.Failure}
		}}
		a, err = x.run(t.Context(), m, Request{})
		if err != nil {
			t.Fatalf("Run() = %v, want the attempt: an error with a status is an answer", err)
		}
		if e := x.Failure(a); e.Reason != Failed || !errors.Is(e, errDown) || len(e.Attempts) != 1 || e.Attempts[0].Status != 14 {
			t.Errorf("Failure() = %+v", e)
		}
		a.End(resilience.Failure, nil)
		if n := inFlight(m, "orders"); n != 0 {
			t.Errorf("in flight afterwards = %d", n)
		}
	})
}

func TestPropagateIsCalledForEveryAttempt(t *testing.T) {
	m := open(t, Config{Resolver: orders(2), Hooks: Hooks{Propagate: func(_ context.Context, set func(key, value string)) { set("k", "v") }}})
	got := ""
	x := &exchange{}
	x.attempt = func(ctx context.Context, a *Attempt) resilience.Verdict {
		if x.Propagates() {
			x.Propagate(ctx, func(k, v string) { got += k + v })
		}
		return resilience.Verdict{}
	}
	a, err := x.run(t.Context(), m, Request{})
	if err != nil {
		t.Fatal(err)
	}
	a.End(resilience.Success, nil)
	if got != "kv" {
		t.Errorf("set = %q, want kv", got)
	}
}

func TestAnsweredCallLivesUntilItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(2), Spec: Spec{Defaults: Policy{AttemptTimeout: time.Second, Timeout: time.Hour}}})
		var ctx context.Context
		x := &exchange{attempt: func(c context.Context, _ *Attempt) resilience.Verdict { ctx = c; return resilience.Verdict{} }}
		a, err := x.run(t.Context(), m, Request{})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if ctx.Err() != nil || a.Node().InFlight() != 1 {
			t.Errorf("context of an answer after a minute: %v, in flight %d", ctx.Err(), a.Node().InFlight())
		}
		a.End(resilience.Success, nil)
		if ctx.Err() == nil || a.Node().InFlight() != 0 {
			t.Errorf("context of an answer after its end: %v, in flight %d", ctx.Err(), a.Node().InFlight())
		}
	})
}

func TestStreamsTeachNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(1)})
		for _, stream := range []bool{true, false} {
			x := &exchange{attempt: func(context.Context, *Attempt) resilience.Verdict {
				time.Sleep(time.Millisecond)
				return resilience.Verdict{}
			}}
			a, err := x.run(t.Context(), m, Request{Stream: stream})
			if err != nil {
				t.Fatal(err)
			}
			a.End(resilience.Success, nil)
			if _, known := a.Node().Cost(time.Now()); known == stream {
				t.Errorf("latency is known after an attempt with Stream %v: %v", stream, known)
			}
		}
	})
}

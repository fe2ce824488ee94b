package zerohop

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// script says how the attempts of a call go, by their number.
type script [resilience.MaxAttempts]struct {
	lasts   time.Duration
	verdict resilience.Verdict
	err     error
}

// tell lets an attempt end as written.
func (s *script) tell(a *Attempt) resilience.Verdict {
	line := &s[a.Number]
	if a.Err = line.err; a.Err == nil {
		a.Status = 200
	}
	return line.verdict
}

func randomScript(rnd *rand.Rand) *script {
	s := new(script)
	for i := range s {
		line := &s[i]
		line.lasts = time.Duration(rnd.IntN(300_000))*time.Microsecond + 1 // at no time when a timer is due, too
		switch rnd.IntN(4) {
		case 0:
			line.verdict.Outcome = resilience.Success
		case 1:
			line.verdict = resilience.Verdict{Outcome: resilience.Failure}
		default:
			line.verdict = resilience.Verdict{Outcome: resilience.Failure, Retry: true, Unsent: rnd.IntN(3) == 0}
			line.err = fmt.Errorf("attempt %d", i)
		}
	}
	return s
}

// blocking is an Exchange as transports have them.
type blocking struct{ script *script }

func (x blocking) Attempt(ctx context.Context, a *Attempt) resilience.Verdict {
	t := time.NewTimer(x.script[a.Number].lasts)
	defer t.Stop()
	select {
	case <-t.C:
		return x.script.tell(a)
	case <-ctx.Done():
		a.Err = ctx.Err()
		return resilience.Verdict{Outcome: resilience.Failure, Retry: true}
	}
}

func (blocking) Release(*Attempt) {}

// stepping is an Exchange that makes no progress by itself.
type stepping struct{ open []*Attempt }

func (x *stepping) Attempt(_ context.Context, a *Attempt) resilience.Verdict {
	a.Open()
	x.open = append(x.open, a)
	return resilience.Verdict{}
}

func (x *stepping) Release(a *Attempt) {
	x.open = slices.DeleteFunc(x.open, func(b *Attempt) bool { return a == b })
}

// step makes a call in steps, each at its time.
func step(ctx context.Context, m *Mesh, r *Request, s *script) (*Attempt, error) {
	var call Stepped
	var x stepping
	call.Begin(ctx, m, r, &x)
	for !call.Over() {
		next := call.Wake()
		var first *Attempt
		for _, a := range x.open {
			if at := m.base.Add(a.start + s[a.Number].lasts); next.IsZero() || at.Before(next) {
				next, first = at, a
			}
		}
		time.Sleep(time.Until(next))
		synctest.Wait() // for the context to end
		if first == nil {
			call.Tick()
			continue
		}
		x.Release(first)
		call.Answer(first, s.tell(first))
	}
	return call.Result()
}

// What it is about is that the simulator decides as the transports do: every call has the same attempts, to the same endpoints
// at the same times, and the same end, whether it blocks or is stepped.
func TestSteppedCallsGoAsOthers(t *testing.T) {
	type outcome struct {
		record    CallRecord
		number    int
		err       string
		inFlight  int
		level     float64
		explained Explanation
	}
	seen := map[string]int{}
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		s := randomScript(rnd)
		p := Policy{
			Idempotent: []Switch{On, On, Off}[rnd.IntN(3)],
			Retry:      Retry{Attempts: 1 + rnd.IntN(5)},
			Backup:     Backup{Mode: []Switch{On, Off}[rnd.IntN(2)]},
			Throttle:   Throttle{Mode: []Switch{On, Off}[rnd.IntN(2)]},
			ServiceBreaker: Breaker{
				Mode: []Switch{On, Off}[rnd.IntN(2)], Consecutive: 1 + rnd.Uint32N(2), OpenFor: time.Duration(1+rnd.IntN(100)) * time.Millisecond,
			},
		}
		deadline := time.Duration(rnd.IntN(2)*(50+rnd.IntN(600))) * time.Millisecond
		p.AttemptTimeout = time.Duration(rnd.IntN(2)) * (time.Duration(50+rnd.IntN(200))*time.Millisecond + 3)
		if rnd.IntN(2) == 0 {
			p.Timeout = 200*time.Millisecond + 2
		}
		endpoints := 1 + rnd.IntN(4)
		run := func(call func(context.Context, *Mesh, *Request) (*Attempt, error)) (o outcome) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				source := rand.NewPCG(seed, 8)
				words := func() uint64 {
					mu.Lock()
					defer mu.Unlock()
					return source.Uint64()
				}
				m := open(t, Config{Resolver: orders(endpoints), Rand: words, Spec: Spec{Defaults: p}})
				ctx, report := WithReport(t.Context())
				if deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, deadline)
					defer cancel()
				}
				if _, err := m.service("orders"); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				a, err := call(ctx, m, &Request{Request: routing.Request{Service: "orders"}})
				if o.number = -1; a != nil {
					o.number = a.Number
					a.End(a.Verdict().Outcome, nil)
				}
				o.err = fmt.Sprint(err)
				synctest.Wait()
				o.record = report.Calls()[0]
				o.record.Start = time.Time{}
				if e := o.record.Explanation; e != nil {
					o.explained, o.record.Explanation = *e, nil
					o.explained.Start = time.Time{}
					for i := range o.explained.Tries { // the goroutines of attempts learn of the end in any order
						if t := &o.explained.Tries[i]; e.Detail == resilience.Canceled || t.Running {
							t.Running, t.Error = false, ""
						}
					}
				}
				svc, _ := m.service("orders")
				for _, n := range svc.balancer.Set().Nodes() {
					o.inFlight += n.InFlight()
				}
				o.level = svc.budget.Level()
				var e *Error
				if errors.As(err, &e) {
					seen[string(e.Reason)]++
				}
				seen[o.record.Detail.String()]++
			})
			return o
		}
		want := run(func(ctx context.Context, m *Mesh, r *Request) (*Attempt, error) {
			return new(Call).Run(ctx, m, r, blocking{s})
		})
		got := run(func(ctx context.Context, m *Mesh, r *Request) (*Attempt, error) { return step(ctx, m, r, s) })
		if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
			t.Fatalf("seed %d: stepped\n%s, want\n%s", seed, g, w)
		}
		if got.inFlight != 0 {
			t.Fatalf("seed %d: %d attempts are in flight after the call", seed, got.inFlight)
		}
		for _, a := range got.record.Attempts {
			seen[a.Cause.String()]++
		}
	}
	t.Log(seen)
	for _, what := range []string{"first", "retry", "resend", "backup", string(Failed), string(Ended), resilience.Exhausted.String()} {
		if seen[what] == 0 {
			t.Errorf("no call with %q", what)
		}
	}
}

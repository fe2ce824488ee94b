package resilience_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

var errUnsent = &net.OpError{Op: "dial", Err: errBroken}

// randomStack has every stage on or off, with limits that 20 callers reach.
func randomStack(rnd *rand.Rand) *resilience.Stack {
	on := func() bool { return rnd.IntN(2) == 0 }
	some := func(most time.Duration) time.Duration { return time.Duration(rnd.Int64N(int64(most))) }
	s := &resilience.Stack{
		Idempotent: on(), Criticality: resilience.Criticality(rnd.IntN(5)), Rand: rnd.Uint64,
		Budget: resilience.NewBudget(resilience.BudgetConfig{
			Kind: []string{resilience.BudgetSuccess, resilience.BudgetGRPC, resilience.BudgetRatio, resilience.BudgetConcurrent}[rnd.IntN(4)],
		}),
	}
	if on() {
		s.Timeout = some(time.Second) + 1
	}
	if on() {
		s.AttemptTimeout = some(200*time.Millisecond) + 1
	}
	if on() {
		s.RateLimit, s.MaxWait = resilience.NewRateLimit(resilience.RateLimitConfig{Rate: 100, Burst: 5}), some(300*time.Millisecond)
	}
	if on() {
		s.Limit = resilience.NewLimit(resilience.LimitConfig{
			Algorithm: []string{"", "aimd", "gradient"}[rnd.IntN(3)], Max: 1 + rnd.IntN(10), Queue: rnd.IntN(10),
			MaxWait: some(300 * time.Millisecond), Observe: rnd.IntN(5) == 0,
		}, rnd.Uint64)
	}
	if on() {
		s.Retry = &resilience.Retry{Attempts: rnd.IntN(7), Backoff: resilience.BackoffConfig{Base: some(50*time.Millisecond) + 1, Max: time.Second}}
	}
	if on() {
		s.Hedge = &resilience.Hedge{After: some(50*time.Millisecond) + 1}
		if on() {
			s.Hedge.Latency = &resilience.Latency{}
		}
	}
	if on() {
		s.Throttle = resilience.NewThrottle(resilience.ThrottleConfig{Window: time.Second})
	}
	if on() {
		s.Breaker = resilience.NewBreaker(resilience.BreakerConfig{
			Consecutive: 1 + uint32(rnd.IntN(20)), Calls: uint32(rnd.IntN(2) * 10), OpenFor: some(200*time.Millisecond) + 1,
			MaxOpenFor: time.Second, Probes: 1 + uint32(rnd.IntN(3)), SlowAfter: some(time.Second),
		})
	}
	return s
}

// sent is one call as the function sees it.
type sent struct {
	mu                sync.Mutex
	total, now, taken int // executions, those under way, and those that the service may have begun to work on
}

// run behaves at random. Its dice are its own, as attempts run side by side.
func (c *sent) run(ctx context.Context, t *testing.T, s *resilience.Stack, seed uint64) (int, error) {
	c.mu.Lock()
	c.total++
	c.now++
	n := c.total
	rnd := rand.New(rand.NewPCG(seed, uint64(n)))
	kind := rnd.IntN(10)
	if !s.Idempotent && (c.taken > 0 || c.now > 1) {
		t.Error("a call that is not idempotent was made again, although the service may have begun to work on it")
	}
	if kind != 0 {
		c.taken++
	}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.now--
		c.mu.Unlock()
	}()
	select {
	case <-time.After(time.Duration(rnd.Int64N(int64(150 * time.Millisecond)))):
	case <-ctx.Done():
		return n, ctx.Err()
	}
	switch kind {
	case 0:
		return n, errUnsent
	case 1, 2:
		return n, errBroken
	case 3:
		<-ctx.Done()
		return n, ctx.Err()
	case 4:
		panic(errBroken)
	}
	return n, nil
}

// checkDo has callers use a stack at random, and checks each call, and that the stack holds nothing in the end.
func checkDo(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 0))
	var dice sync.Mutex
	s := randomStack(rnd)
	s.Rand = func() uint64 { dice.Lock(); defer dice.Unlock(); return rnd.Uint64() }
	random := s.Rand
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() {
			for range 5 {
				time.Sleep(time.Duration(random() % uint64(200*time.Millisecond)))
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+random()%uint64(2*time.Second)))
				if random()%4 == 0 {
					time.AfterFunc(time.Duration(random()%uint64(300*time.Millisecond)), cancel)
				}
				oneDo(ctx, t, s, random())
				cancel()
			}
		})
	}
	callers.Wait()
	synctest.Wait()
	if s.Limit != nil {
		if l := s.Limit.State(); l.InFlight != 0 || l.Queued != 0 {
			t.Errorf("limit at rest: %+v", l)
		}
	}
	if s.Throttle != nil && s.Throttle.UnderWay() != 0 {
		t.Errorf("the throttle has %d attempts under way at rest", s.Throttle.UnderWay())
	}
	if s.Breaker != nil && s.Breaker.Leases() != 0 {
		t.Errorf("%d permits of the breaker are out at rest", s.Breaker.Leases())
	}
	if active, extra := s.Budget.UnderWay(); active != 0 || extra != 0 {
		t.Errorf("the budget has %d attempts under way and %d extra ones at rest", active, extra)
	}
}

func oneDo(ctx context.Context, t *testing.T, s *resilience.Stack, seed uint64) {
	c := &sent{}
	start := time.Now()
	defer func() {
		if p := recover(); p != nil && p != any(errBroken) {
			panic(p)
		}
		if d, _ := ctx.Deadline(); time.Now().After(d) || s.Timeout > 0 && time.Since(start) > s.Timeout {
			t.Errorf("a call took %v, longer than it may", time.Since(start))
		}
	}()
	n, err := resilience.Do(ctx, s, func(ctx context.Context) (int, error) { return c.run(ctx, t, s, seed) })
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.total > resilience.MaxAttempts || err == nil && (n < 1 || n > c.total) {
		t.Errorf("Do() = %d, %v after %d attempts", n, err, c.total)
	}
	if e, ok := errors.AsType[*resilience.Error](err); err != nil && (!ok || len(e.Attempts) > resilience.MaxAttempts || e.Err == nil) {
		t.Errorf("Do() = %#v after %d attempts, want an *Error that lists them", err, c.total)
	}
}

func TestDoAtRandom(t *testing.T) {
	for seed := range uint64(100) {
		synctest.Test(t, func(t *testing.T) { checkDo(t, seed) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// What panics holds nothing of a budget that counts what is under way.
func TestPanicsGiveTheBudgetBack(t *testing.T) {
	b := resilience.NewBudget(resilience.BudgetConfig{Kind: resilience.BudgetConcurrent, Floor: 1})
	s := &resilience.Stack{Idempotent: true, Retry: &resilience.Retry{Backoff: resilience.BackoffConfig{Base: 1, Max: 1}}, Budget: b}
	for range 3 {
		attempts := 0
		func() {
			defer func() { _ = recover() }()
			_, _ = resilience.Do(t.Context(), s, func(context.Context) (int, error) {
				if attempts++; attempts == 2 {
					panic(errBroken)
				}
				return 0, errBroken
			})
		}()
		if attempts != 2 || b.Level() != 1 {
			t.Errorf("%d attempts, and the budget is filled to %v at rest, want 2 and 1", attempts, b.Level())
		}
	}
}

package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// One stack for all calls of a price service by whatever client there is for it: attempts that take long or fail are repeated
// while the budget lasts, and none is made while most of them fail.
func ExampleDo() {
	stack := &resilience.Stack{
		Timeout:        time.Second,
		AttemptTimeout: 300 * time.Millisecond,
		Idempotent:     true, // or nothing would be repeated
		Retry:          &resilience.Retry{Attempts: 3},
		Budget:         resilience.NewBudget(resilience.BudgetConfig{}),
		Breaker:        resilience.NewBreaker(resilience.BreakerConfig{}),
	}
	tries := 0
	price := func(ctx context.Context) (float64, error) {
		if tries++; tries < 3 {
			return 0, errors.New("connection reset")
		}
		return 9.99, nil
	}
	fmt.Println(resilience.Do(context.Background(), stack, price))
	fmt.Println("tries:", tries)
	// Output:
	// 9.99 <nil>
	// tries: 3
}

// The price of yesterday is better than none.
func ExampleDoOr() {
	stack := &resilience.Stack{Breaker: resilience.NewBreaker(resilience.BreakerConfig{Consecutive: 2, OpenFor: time.Minute})}
	price := func(context.Context) (float64, error) { return 0, errors.New("connection reset") }
	cached := func(ctx context.Context, err error) (float64, error) {
		fmt.Println(err)
		return 9.49, nil
	}
	for range 3 {
		fmt.Println(resilience.DoOr(context.Background(), stack, price, cached))
	}
	// Output:
	// resilience: failed: connection reset
	// 9.49 <nil>
	// resilience: failed: connection reset
	// 9.49 <nil>
	// resilience: circuit breaker is open
	// 9.49 <nil>
}

// A stack of one stage is that stage alone: here attempts that fail are repeated, but not answers.
func ExampleStack_retry() {
	errNotFound, errBusy := errors.New("not found"), errors.New("busy")
	stack := &resilience.Stack{
		Idempotent: true,
		Retry:      &resilience.Retry{Attempts: 2, Backoff: resilience.BackoffConfig{Base: time.Millisecond}},
		Classify: func(err error) resilience.Verdict {
			if errors.Is(err, errNotFound) {
				return resilience.Verdict{Outcome: resilience.Success}
			}
			return resilience.Verdict{Outcome: resilience.Failure, Retry: true}
		},
	}
	for _, err := range []error{errNotFound, errBusy} {
		fmt.Println(stack.Run(context.Background(), func(context.Context) error { return err }))
	}
	// Output:
	// not found
	// resilience: attempts exhausted after 2 attempts: busy
}

// The first attempt hangs, the one that joins it does not.
func ExampleStack_hedge() {
	stack := &resilience.Stack{Idempotent: true, Hedge: &resilience.Hedge{After: 20 * time.Millisecond}}
	answers := make(chan string, 1)
	answers <- "slow"
	read := func(ctx context.Context) (string, error) {
		select {
		case <-answers:
			<-ctx.Done()
			return "", ctx.Err()
		default:
			return "fast", nil
		}
	}
	fmt.Println(resilience.Do(context.Background(), stack, read))
	// Output: fast <nil>
}

func ExampleStack_timeout() {
	stack := &resilience.Stack{Timeout: 10 * time.Millisecond}
	err := stack.Run(context.Background(), func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
	fmt.Println(err, errors.Is(err, context.DeadlineExceeded))
	// Output: resilience: call took longer than 10ms true
}

// Ten calls a second, and no queue for the others.
func ExampleStack_rateLimit() {
	stack := &resilience.Stack{RateLimit: resilience.NewRateLimit(resilience.RateLimitConfig{Rate: 10, Burst: 2})}
	for range 3 {
		fmt.Println(stack.Run(context.Background(), func(context.Context) error { return nil }))
	}
	// Output:
	// <nil>
	// <nil>
	// resilience: rate limit reached
}

// A bulkhead of one place.
func ExampleStack_limit() {
	stack := &resilience.Stack{Limit: resilience.NewLimit(resilience.LimitConfig{Max: 1}, nil)}
	err := stack.Run(context.Background(), func(ctx context.Context) error {
		return stack.Run(ctx, func(context.Context) error { return nil })
	})
	fmt.Println(errors.Is(err, resilience.ErrLimited))
	// Output: true
}

// Five failures in a row open the breaker, and then nothing is sent for a while.
func ExampleStack_breaker() {
	stack := &resilience.Stack{Breaker: resilience.NewBreaker(resilience.BreakerConfig{Consecutive: 5})}
	sent := 0
	var err error
	for range 100 {
		err = stack.Run(context.Background(), func(context.Context) error {
			sent++
			return errors.New("connection reset")
		})
	}
	fmt.Println(sent, err)
	// Output: 5 resilience: circuit breaker is open
}

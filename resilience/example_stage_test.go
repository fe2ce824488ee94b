package resilience_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/zerohop/zerohop/resilience"
)

// A service that refuses everything gets few of a hundred calls, and one a second in any case.
func ExampleStack_throttle() {
	stack := &resilience.Stack{Throttle: resilience.NewThrottle(resilience.ThrottleConfig{K: 2})}
	sent := 0
	for range 100 {
		_ = stack.Run(context.Background(), func(context.Context) error {
			sent++
			return errors.New("busy")
		})
	}
	fmt.Println(sent < 30)
	// Output: true
}

// Half of ten tokens can be spent on an outage, and then there is one attempt for each call.
func ExampleStack_budget() {
	stack := &resilience.Stack{
		Idempotent: true,
		Retry:      &resilience.Retry{Attempts: 2, Backoff: resilience.BackoffConfig{Base: 1, Max: 1}},
		Budget:     resilience.NewBudget(resilience.BudgetConfig{}),
	}
	sent := 0
	for range 100 {
		_ = stack.Run(context.Background(), func(context.Context) error {
			sent++
			return errors.New("connection reset")
		})
	}
	fmt.Println(sent <= 105)
	// Output: true
}

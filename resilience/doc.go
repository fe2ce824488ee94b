// Package resilience decides what happens to calls: whether one may begin, whether a failed attempt is repeated or a slow
// one joined by a backup, when to stop, and which answer is the caller's.
//
// Do makes calls of any function under the protection of a Stack:
//
//	stack := &resilience.Stack{
//		AttemptTimeout: time.Second,
//		Idempotent:     true,
//		Retry:          &resilience.Retry{},
//		Budget:         resilience.NewBudget(resilience.BudgetConfig{}),
//	}
//	v, err := resilience.Do(ctx, stack, func(ctx context.Context) (T, error) { ... })
//
// What decides (Call, Budget, Breaker, RateLimit, Limit, Throttle) are pure state machines over (now, event). They start no
// goroutine, never sleep and do no input or output: a driver (Do, zerohop.Call) feeds them events and carries out the actions
// they return. That is what makes them testable to the bottom.
//
//	var call resilience.Call
//	act := call.Step(now, &resilience.Event{Kind: resilience.Begin})
//	// act.Kind == resilience.Launch: start attempt act.Attempt, and report how it went with a Done event.
//
// Use package zerohop instead for calls of a service with several endpoints.
package resilience

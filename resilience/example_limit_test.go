package resilience_test

import (
	"fmt"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// A limit of two calls with a queue for one more: a driver that must not block is told when a call is let in.
func ExampleLimit() {
	limit := resilience.NewLimit(resilience.LimitConfig{Max: 2, Queue: 1}, nil)
	var first, second resilience.Ticket
	fmt.Println(limit.Enter(0, &first), limit.Enter(0, &second))

	batch := resilience.Ticket{Criticality: resilience.Sheddable, Told: func(now time.Duration, a resilience.Admission) {
		fmt.Println("batch at", now, a)
	}}
	fmt.Println(limit.Enter(time.Millisecond, &batch))
	user := resilience.Ticket{Told: func(now time.Duration, a resilience.Admission) { fmt.Println("user at", now, a) }}
	fmt.Println(limit.Enter(2*time.Millisecond, &user)) // the queue is full, and this one matters more

	limit.Leave(20*time.Millisecond, &first, resilience.Success, 20*time.Millisecond)
	// Output:
	// admitted admitted
	// queued
	// batch at 2ms gave way to others
	// queued
	// user at 20ms admitted
}

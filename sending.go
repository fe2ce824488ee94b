package zerohop

import "github.com/zerohop/zerohop/resilience"

// Repeatable reports whether another attempt of the call may follow or join this one although the endpoint may have
// begun to work on it, so that it is worth keeping what that takes.
func (a *Attempt) Repeatable() bool {
	c := &a.call.machine.Config
	return c.Idempotent && !c.Nested && c.Criticality.Or(resilience.Critical) > resilience.Sheddable && c.Attempts > 1 && (!c.NoRetry || c.Backup > 0)
}

// Resent says that what the attempt was sent with sent it n more times by itself, as net/http does with idempotent
// requests on connections that break. The budget of the service pays for that. It is called by Exchange.Attempt.
func (a *Attempt) Resent(n int) {
	a.call.mu.Lock()
	a.ownRarity().resends += n
	a.call.mu.Unlock()
	a.call.machine.Config.Budget.Resent(a.call.mesh().now(), n)
}

// Conclude sets the status of an answer that ends with it, as streams of RPCs do. It is called before End, and after Run
// has returned: a Report may look at the attempt at the same time.
func (a *Attempt) Conclude(status int) {
	a.call.mu.Lock()
	defer a.call.mu.Unlock()
	a.Status = status
}

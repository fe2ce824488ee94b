package zerohop

import (
	"fmt"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// tick is called by the watchdog when an attempt is overdue.
func (c *Call) tick(now time.Duration) {
	switch act := c.step(now, &resilience.Event{Kind: resilience.Tick}); act.Kind {
	case resilience.Launch:
		c.spawn(now, act)
	case resilience.Wait:
		c.rewatch()
	}
}

// rewatch has the watchdog look at the call when its next backup is due, unless the goroutine of the caller does.
func (c *Call) rewatch() {
	c.mu.Lock()
	wake := c.machine.Wake()
	if c.waiting || c.over {
		wake = 0
	}
	c.mu.Unlock()
	if wake > 0 {
		c.mesh().overdue.watch(c, wake)
	}
}

// spawn makes a backup in a goroutine of its own, which ends when the attempt does: at the latest soon after the
// call has finished and cancelled it. Close of the mesh waits for it.
func (c *Call) spawn(now time.Duration, act resilience.Action) {
	c.mu.Lock()
	c.slot(act.Attempt).spawned = true
	c.mu.Unlock()
	started := c.mesh().task(func() { c.guarded(now, act) })
	if !started {
		c.post(c.step(now, &resilience.Event{Kind: resilience.Rejected, Attempt: act.Attempt}))
	}
}

// guarded makes an attempt in a goroutine of the library, where a panic of user code would end the process without
// the caller having a chance to catch it.
func (c *Call) guarded(now time.Duration, act resilience.Action) {
	var next resilience.Action
	returned := false
	defer func() {
		if !returned {
			next = c.panicked(act.Attempt, recover()) // nil after runtime.Goexit
		}
		c.post(next)
	}()
	next = c.attempt(now, act)
	returned = true
}

// panicked makes a failure of an attempt whose transport or hook panicked.
func (c *Call) panicked(attempt int, p any) resilience.Action {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.slot(attempt)
	a.verdict, a.judged = resilience.Verdict{Outcome: resilience.Failure}, true
	a.Err, a.Status = fmt.Errorf("%w: %v", errPanicked, p), -1
	return c.stepLocked(c.mesh().now(), &resilience.Event{Kind: resilience.Done, Attempt: attempt, Verdict: a.verdict})
}

// post hands on what is to be done after a backup.
func (c *Call) post(act resilience.Action) {
	c.mu.Lock()
	if act.Kind == resilience.Launch {
		c.next, c.left = packed(act), true
	}
	signal := c.rest().signal
	c.mu.Unlock()
	if act.Kind == resilience.Wait {
		c.rewatch()
	}
	select {
	case signal <- struct{}{}:
	default:
	}
}

// wait blocks the goroutine of the caller until there is something to do.
func (c *Call) wait() resilience.Action {
	c.mu.Lock()
	if act, ok := c.pending(); ok {
		c.mu.Unlock()
		return act
	}
	signal, wake := c.rest().signal, c.machine.Wake()
	c.waiting = true
	c.mu.Unlock()

	var alarm <-chan time.Time
	if wake > 0 {
		defer c.target.service.keep()()
		t := time.NewTimer(wake - c.mesh().now())
		defer t.Stop()
		alarm = t.C
	}
	ev := resilience.Event{Kind: resilience.Tick}
	select {
	case <-signal:
	case <-alarm:
	case <-c.ctx.Done():
		ev.Kind = resilience.Cancel
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = false
	if act, ok := c.pending(); ok {
		return act
	}
	return c.stepLocked(c.mesh().now(), &ev)
}

// pending returns what a backup left to do, if anything. c.mu is held.
func (c *Call) pending() (resilience.Action, bool) {
	ok := c.over || c.left
	c.left = false
	return c.next.unpacked(), ok
}

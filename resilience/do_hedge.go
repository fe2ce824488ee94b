package resilience

import (
	"context"
	"errors"
	"sync"
	"time"
)

// hedged is a call whose attempts may overlap.
type hedged[T any] struct {
	f func(context.Context) (T, error)

	mu      sync.Mutex // guards what follows
	driver  driver
	results [MaxAttempts]T
	cancels [MaxAttempts]context.CancelFunc
	over    bool
	left    bool          // next is to be done by the caller's goroutine
	next    Action        // the machine's last one if over; else what another goroutine left to do
	timer   *time.Timer   // runs tick when the machine wants to be woken up
	signal  chan struct{} // tells the caller's goroutine that something happened
	panics  any           // what f panicked with in another goroutine
}

var errGoexit = errors.New("resilience: the function called runtime.Goexit")

// hedge is do for stacks that hedge.
func hedge[T any](ctx context.Context, s *Stack, f func(context.Context) (T, error)) (v T, o Outcome, err error) {
	h := &hedged[T]{f: f, driver: driver{stack: s, ctx: ctx}, signal: make(chan struct{}, 1)}
	h.mu.Lock()
	act := h.follow(h.driver.begin())
	h.mu.Unlock()
	for act.Kind != Finish {
		if act.Kind == Launch {
			act = h.attempt(act, false)
		} else {
			act = h.wait()
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.panics != nil {
		panic(h.panics)
	}
	if act.Attempt >= 0 {
		v = h.results[act.Attempt]
	}
	o, err = h.driver.finish(act)
	return v, o, err
}

// step tells the machine what happened. h.mu is held.
func (h *hedged[T]) step(now time.Duration, ev *Event) Action {
	if h.over {
		return h.next
	}
	return h.follow(h.driver.machine.Step(now, ev))
}

// follow keeps the timer at the machine's Wake and, when the call is over, ends the attempts that still run. h.mu is held.
func (h *hedged[T]) follow(act Action) Action {
	if act.Kind == Finish {
		h.over, h.next = true, act
		now := sinceBase()
		for i, cancel := range h.cancels {
			if r := &h.driver.records[i]; cancel != nil && h.driver.machine.Running(i) {
				r.Running, r.Duration = true, now-h.driver.start-r.Start
				cancel()
			}
		}
	}
	switch wake := h.driver.machine.Wake(); {
	case wake > 0 && h.timer == nil:
		h.timer = time.AfterFunc(wake-sinceBase(), h.tick)
	case wake > 0:
		h.timer.Reset(wake - sinceBase())
	case h.timer != nil:
		h.timer.Stop()
	}
	return act
}

// tick runs when the machine wants to be woken up, in a goroutine of its own, which makes the attempt that joins another.
func (h *hedged[T]) tick() {
	defer h.tell()
	h.mu.Lock()
	var act Action
	if h.driver.machine.Active() > 0 { // else the caller's goroutine waits, and can do that itself
		act = h.step(sinceBase(), &Event{Kind: Tick})
	}
	h.mu.Unlock()
	if act.Kind == Launch {
		h.attempt(act, true)
	}
}

func (h *hedged[T]) tell() {
	select {
	case h.signal <- struct{}{}:
	default:
	}
}

// wait blocks the caller's goroutine until there is something to do.
func (h *hedged[T]) wait() Action {
	ev := Event{Kind: Tick}
	select {
	case <-h.signal:
	case <-h.driver.ctx.Done():
		ev.Kind = Cancel
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.left && !h.over {
		h.left = false
		return h.next
	}
	return h.step(sinceBase(), &ev)
}

// attempt makes an attempt in the present goroutine and returns what to do next. joins says that this is not the caller's: it
// leaves that to do what is next, and a panic, too.
func (h *hedged[T]) attempt(act Action, joins bool) (next Action) {
	d, i := &h.driver, act.Attempt
	now := sinceBase()
	t, err := d.stack.admit(now)
	if err != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		d.refused = err
		return h.leave(h.step(now, &Event{Kind: Rejected, Refused: true, Attempt: i}), joins)
	}
	ctx, cancel := context.WithCancel(d.ctx)
	defer cancel()
	returned := false
	defer func() {
		if returned {
			return
		}
		t.release(sinceBase(), Neutral)
		h.mu.Lock()
		defer h.mu.Unlock()
		if joins {
			p := recover()
			if p == nil {
				p = errGoexit
			}
			if !h.over {
				h.panics = p
			}
		}
		next = h.step(sinceBase(), &Event{Kind: Cancel})
	}()
	t.limit(ctx, d.stack.AttemptTimeout)
	r := AttemptRecord{Cause: act.Cause, Outcome: Neutral, Start: now - d.start}
	if !h.enter(i, &r, cancel) {
		returned = true
		t.release(sinceBase(), Neutral)
		return h.next
	}
	v, err := h.f(t.ctx)
	ev := Event{Attempt: i}
	now = sinceBase()
	d.judge(&t, &r, now, err, &ev)
	returned = true
	t.release(now, ev.Verdict.Outcome)
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.over {
		d.records[i], h.results[i], d.last = r, v, r.Err
	}
	return h.leave(h.step(now, &ev), joins)
}

// enter notes that attempt i begins, unless the call is over.
func (h *hedged[T]) enter(i int, r *AttemptRecord, cancel context.CancelFunc) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.over {
		h.cancels[i] = cancel
		h.driver.made |= 1 << i
		h.driver.records[i] = *r
	}
	return !h.over
}

// leave lets the caller's goroutine make an attempt that is to follow one which was made elsewhere. h.mu is held.
func (h *hedged[T]) leave(next Action, joins bool) Action {
	if joins && next.Kind == Launch {
		h.next, h.left = next, true
	}
	return next
}

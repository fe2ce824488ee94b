package resilience

import (
	"context"
	"time"
)

// Acquire is Enter for callers that may block: it waits for a place in the queue as long as the context, the deadline of the
// ticket and LimitConfig.MaxWait allow. nil means that the ticket is in flight and owes Leave. Otherwise the error is a
// *LimitedError, or that of the context, and nothing is owed; with LimitConfig.Observe, a *LimitedError means that the ticket
// is in flight all the same. clock is the clock of the times of the ticket and of Leave. Ticket.Told must
// be nil.
func (l *Limit) Acquire(ctx context.Context, clock func() time.Duration, t *Ticket) error {
	switch a := l.Enter(clock(), t); a {
	case Admitted:
		return nil
	case Queued:
		return l.Wait(ctx, clock, t)
	default:
		return l.limited(a)
	}
}

// Wait is the part of Acquire that blocks: it is to be called, once, after Enter has Queued a ticket without Told.
func (l *Limit) Wait(ctx context.Context, clock func() time.Duration, t *Ticket) error {
	signal := t.signal
	timer := time.NewTimer(t.expiry - clock())
	defer timer.Stop()
	for {
		select {
		case a := <-signal:
			if a == Admitted {
				return nil
			}
			return l.limited(a)
		case <-ctx.Done():
			if !l.Cancel(clock(), t) && <-signal == Admitted {
				l.Leave(clock(), t, Neutral, 0)
			}
			return ctx.Err()
		case <-timer.C:
			now := clock()
			l.Tick(now)
			timer.Reset(max(t.expiry-now, 1)) // in case the clocks differ a little
		}
	}
}

func (l *Limit) limited(a Admission) error {
	return &LimitedError{Admission: a, After: l.State().Wait}
}

package resilience

import (
	"context"
	"errors"
	"time"
)

// gate takes a call through the stages that count calls and not attempts.
type gate struct {
	ticket *Ticket // nil unless it is in flight
	start  time.Duration
}

// enter waits where a stage has the call wait.
func (g *gate) enter(ctx context.Context, s *Stack) error {
	now := sinceBase()
	if s.RateLimit != nil {
		wait, ok := s.RateLimit.Reserve(now, s.MaxWait)
		if !ok {
			return &Error{Reason: Refused, After: wait, Err: ErrRateLimited}
		}
		if wait > 0 {
			if !pause(ctx, wait) {
				s.RateLimit.Cancel(now, wait)
				return &Error{Reason: Canceled, Err: gone(ctx, ErrRateLimited)}
			}
			now = sinceBase()
		}
	}
	if s.Limit == nil {
		return nil
	}
	var c CallConfig
	s.config(ctx, now, &c)
	t := &Ticket{Criticality: s.Criticality, Deadline: c.Deadline, Expected: 2 * c.MinRemaining}
	if err := s.Limit.Acquire(ctx, sinceBase, t); err != nil && t.state != inside {
		if refused, ok := errors.AsType[*LimitedError](err); ok {
			return &Error{Reason: Refused, After: refused.After, Err: err}
		}
		return &Error{Reason: Canceled, Err: gone(ctx, ErrLimited)}
	}
	g.ticket, g.start = t, sinceBase()
	return nil
}

// leave gives back what the call held. How long it took says something about what there is to do, unless it failed or
// panicked.
func (g *gate) leave(s *Stack, o Outcome) {
	if g.ticket == nil {
		return
	}
	now := sinceBase()
	s.Limit.Leave(now, g.ticket, o, now-g.start)
}

// pause waits for d and reports whether the context lasted so long.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

package resilience

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func clock() func() time.Duration {
	base := time.Now()
	return func() time.Duration { return time.Since(base) }
}

func TestAcquireWaitsForAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now, l := clock(), NewLimit(LimitConfig{Max: 1, Queue: 1}, nil)
		var a, b, c Ticket
		if err := l.Acquire(t.Context(), now, &a); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(300*time.Millisecond, func() { l.Leave(now(), &a, Success, 1) })
		var second sync.WaitGroup
		second.Go(func() {
			if err := l.Acquire(t.Context(), now, &b); err != nil || now() != 300*time.Millisecond {
				t.Errorf("Acquire() = %v after %v, want nil after 300ms", err, now())
			}
		})
		synctest.Wait()
		err := l.Acquire(t.Context(), now, &c)
		var limited *LimitedError
		if !errors.As(err, &limited) || limited.Admission != Full || !errors.Is(err, ErrLimited) {
			t.Errorf("Acquire() = %v, want a LimitedError for a full queue", err)
		}
		second.Wait()
		l.Leave(now(), &b, Success, 1)
		if got := l.State(); got.InFlight != 0 || got.Queued != 0 {
			t.Errorf("at rest State() = %+v", got)
		}
	})
}

func TestAcquireGivesUpWhenItsTimeIsUp(t *testing.T) {
	for _, c := range []struct {
		name   string
		cfg    LimitConfig
		ticket Ticket
		want   Admission
		after  time.Duration
	}{
		{"max wait", LimitConfig{Max: 1, Queue: 1, MaxWait: 200 * time.Millisecond}, Ticket{}, Expired, 200 * time.Millisecond},
		{"default", LimitConfig{Max: 1, Queue: 1}, Ticket{}, Expired, time.Second},
		{"deadline", LimitConfig{Max: 1, Queue: 1, MaxWait: -1}, Ticket{Deadline: 70 * time.Millisecond, Expected: 20 * time.Millisecond}, Late, 50*time.Millisecond + 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				now, l := clock(), NewLimit(c.cfg, nil)
				var a Ticket
				l.Enter(now(), &a)
				err := l.Acquire(t.Context(), now, &c.ticket)
				var limited *LimitedError
				if !errors.As(err, &limited) || limited.Admission != c.want || now() != c.after {
					t.Errorf("Acquire() = %v after %v, want %v after %v", err, now(), c.want, c.after)
				}
				if got := l.State(); got.InFlight != 1 || got.Queued != 0 {
					t.Errorf("State() = %+v, want one in flight", got)
				}
			})
		})
	}
}

func TestAcquireEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now, l := clock(), NewLimit(LimitConfig{Max: 1, Queue: 1, MaxWait: -1}, nil)
		var a, b Ticket
		l.Enter(now(), &a)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		if err := l.Acquire(ctx, now, &b); !errors.Is(err, context.DeadlineExceeded) || now() != 30*time.Millisecond {
			t.Errorf("Acquire() = %v after %v, want the end of the context after 30ms", err, now())
		}
		if got := l.State(); got.Queued != 0 {
			t.Errorf("State() = %+v, want an empty queue", got)
		}
	})
}

// A place that comes at the moment at which the caller goes away is given back.
func TestAcquireLeaksNothingWhenCancelledAsItIsLetIn(t *testing.T) {
	now, l := clock(), NewLimit(LimitConfig{Max: 1, Queue: 4, MaxWait: -1}, nil)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 500 {
				ctx, cancel := context.WithCancel(context.Background())
				var ticket Ticket
				all.Go(cancel)
				if l.Acquire(ctx, now, &ticket) == nil {
					l.Leave(now(), &ticket, Success, 1)
				}
				cancel()
			}
		})
	}
	all.Wait()
	if got := l.State(); got.InFlight != 0 || got.Queued != 0 {
		t.Errorf("at rest State() = %+v", got)
	}
}

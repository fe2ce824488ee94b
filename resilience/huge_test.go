package resilience

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// Some say "for ever" with the largest duration there is.
func TestLargestDurationsMeanForEver(t *testing.T) {
	const ever = math.MaxInt64
	warm := &Latency{}
	for range 100 {
		warm.Observe(time.Second, time.Millisecond)
	}
	for name, s := range map[string]*Stack{
		"timeout": {Timeout: ever, Idempotent: true, Retry: &Retry{}},
		"attempt": {AttemptTimeout: ever},
		"hedge":   {Timeout: ever, Idempotent: true, Hedge: &Hedge{After: ever}},
		"factor":  {Timeout: ever, Idempotent: true, Hedge: &Hedge{Latency: warm, Factor: math.Inf(1)}},
		"limit":   {Timeout: ever, Limit: NewLimit(LimitConfig{Max: 1, Queue: 1, MaxWait: ever, Patience: ever}, nil)},
		"rate":    {MaxWait: ever, RateLimit: NewRateLimit(RateLimitConfig{Rate: 1e6})},
		"breaker": {Breaker: NewBreaker(BreakerConfig{Window: ever, SlowAfter: ever, OpenFor: ever, Lease: ever})},
		"throttle": {
			Throttle: NewThrottle(ThrottleConfig{Window: ever}),
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for range 2 {
					calls := 0
					err := s.Run(t.Context(), func(ctx context.Context) error {
						calls++
						time.Sleep(time.Second)
						return ctx.Err()
					})
					if err != nil || calls != 1 {
						t.Errorf("Run() = %v after %d attempts, want nil after 1", err, calls)
					}
				}
			})
		})
	}
}

func TestBreakerStaysOpenForEver(t *testing.T) {
	b := NewBreaker(BreakerConfig{Consecutive: 1, OpenFor: math.MaxInt64, Window: math.MaxInt64})
	p, _ := b.Allow(time.Hour)
	p.Done(time.Hour, Failure, time.Millisecond)
	if !b.Open(24 * 365 * time.Hour) {
		t.Error("Open() after a year = false, want true")
	}
}

func TestWindowsAreBounded(t *testing.T) {
	c := BreakerConfig{Window: 25 * time.Hour, Jitter: math.Inf(-1)}
	const want = "window: must be between 10ms and 24h0m0s, got 25h0m0s\njitter: must not be above 1, got -Inf"
	if got := c.Validate().Error(); got != want {
		t.Errorf("Validate() = %q, want %q", got, want)
	}
}

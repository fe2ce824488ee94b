package zerohop_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

func TestRateLimitOverEveryTransport(t *testing.T) {
	for _, d := range drivers {
		t.Run(d.name, func(t *testing.T) {
			var f faults
			call := d.start(t, &f, zerohop.Policy{RateLimit: zerohop.RateLimit{Mode: zerohop.On, Rate: 100, Burst: 100, MaxWait: time.Nanosecond}})
			var err error
			for range 1000 {
				if _, err = call(t.Context(), "user"); err != nil {
					break
				}
			}
			checkRefused(t, err, zerohop.RateLimited, resilience.ErrRateLimited, codes.ResourceExhausted)
		})
	}
}

func TestServiceBreakerOverEveryTransport(t *testing.T) {
	for _, d := range drivers {
		t.Run(d.name, func(t *testing.T) {
			var f faults
			call := d.start(t, &f, zerohop.Policy{ServiceBreaker: zerohop.Breaker{Mode: zerohop.On, OpenFor: 100 * time.Millisecond, MinRequests: 50}})
			f.set(1_000_000, "")
			err := untilRefused(t, call)
			checkRefused(t, err, zerohop.BreakerOpen, resilience.ErrBreakerOpen, codes.Unavailable)
			f.set(0, "")
			for healed := time.Now(); err != nil; _, err = call(t.Context(), "user") {
				if time.Since(healed) > 2*time.Second {
					t.Fatalf("2 s after the service has healed: %v", err)
				}
			}
		})
	}
}

func TestThrottleOverEveryTransport(t *testing.T) {
	for _, d := range drivers {
		t.Run(d.name, func(t *testing.T) {
			var f faults
			call := d.start(t, &f, zerohop.Policy{Throttle: zerohop.Throttle{Mode: zerohop.On}, Outlier: zerohop.Outlier{Mode: zerohop.Off}})
			f.set(1_000_000, "")
			checkRefused(t, untilRefused(t, call), zerohop.Throttled, resilience.ErrThrottled, codes.ResourceExhausted)
		})
	}
}

// untilRefused makes calls that fail until one is refused by the client.
func untilRefused(t *testing.T, call func(context.Context, string) (string, error)) error {
	t.Helper()
	for range 1000 {
		_, err := call(t.Context(), "user")
		var e *zerohop.Error
		if errors.As(err, &e) && e.Detail == resilience.Refused && len(e.Attempts) == 0 {
			return err
		}
	}
	t.Fatal("none of 1,000 calls was refused")
	return nil
}

// checkRefused checks that a call was refused before anything was sent.
func checkRefused(t *testing.T, err error, reason zerohop.Reason, cause error, code codes.Code) {
	t.Helper()
	var e *zerohop.Error
	if !errors.As(err, &e) || e.Reason != reason || !errors.Is(err, cause) || e.Sent || len(e.Attempts) > 0 || e.After <= 0 {
		t.Fatalf("error = %+v (%v), want a refusal: %s", e, err, reason)
	}
	if s, ok := status.FromError(err); ok && s.Code() != code {
		t.Errorf("code = %v, want %v", s.Code(), code)
	}
}

package zerohop_test

import (
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

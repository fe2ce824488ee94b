package zerohop

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// Some say "for ever" with the largest duration there is.
func TestLargestDurationsMeanForEver(t *testing.T) {
	const ever = math.MaxInt64
	for name, p := range map[string]Policy{
		"nothing":        {},
		"timeouts":       {Timeout: ever, AttemptTimeout: ever, Backup: Backup{Min: ever}, Retry: Retry{Base: ever, Max: ever}},
		"limits":         {Limit: Limit{Mode: On, Queue: 1, MaxWait: ever}, RateLimit: RateLimit{Mode: On, Rate: 1e6, MaxWait: ever}},
		"endpoint limit": {Timeout: ever, AttemptTimeout: ever, EndpointLimit: EndpointLimit{Mode: On}},
		"breakers": {
			Breaker:        Breaker{Mode: On, OpenFor: ever, SlowAfter: ever},
			ServiceBreaker: Breaker{Mode: On, OpenFor: ever, MaxOpenFor: ever, SlowAfter: ever},
			Throttle:       Throttle{Mode: On, Window: ever},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, err := New(Config{Resolver: discovery.Static{"orders": {{Addr: "a:1"}, {Addr: "b:1"}}}, Spec: Spec{Defaults: p}})
				if err != nil {
					t.Fatal(err)
				}
				defer m.Close()
				time.Sleep(time.Hour)
				ctx, cancel := context.WithTimeout(t.Context(), ever)
				defer cancel()
				for _, ctx := range []context.Context{t.Context(), ctx} {
					ctx = WithCall(ctx, CallOptions{Idempotent: On})
					if _, err := Do(ctx, m, "orders", func(context.Context, *loadbalance.Node) (int, error) { return 1, nil }); err != nil {
						t.Errorf("Do() = %v, want nil", err)
					}
				}
			})
		})
	}
}

// The largest grpc-timeout is longer than a time.Duration.
func TestAdmissionLetsInWhoHasTimeForEver(t *testing.T) {
	a, err := NewAdmission(AdmissionConfig{Policy: AdmissionPolicy{Mode: On}})
	if err != nil {
		t.Fatal(err)
	}
	for _, arrival := range []Arrival{{Left: math.MaxInt64}, {AttemptLeft: math.MaxInt64}} {
		v := Visit{Arrival: arrival}
		if _, err := a.Enter(time.Hour, &v, nil); err != nil {
			t.Errorf("Enter() of %+v = %v, want nil", arrival, err)
			continue
		}
		v.LeaveAt(2*time.Hour, resilience.Success)
	}
}

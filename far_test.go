package zerohop

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// A deadline that is further away than a time.Duration reaches is none.
func TestFarDeadlinesAreFar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := holding(Limit{Mode: On, Max: 1, Queue: 1})
		spec.Defaults.RateLimit = RateLimit{Mode: On, Rate: 1, Burst: 1, MaxWait: time.Minute}
		m := open(t, Config{Resolver: orders(2), Spec: spec})
		time.Sleep(time.Second)
		ctx, cancel := context.WithDeadline(t.Context(), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC))
		defer cancel()
		for range 2 {
			n := 0
			_, err := Do(WithCall(ctx, CallOptions{Idempotent: On}), m, "orders", func(context.Context, *loadbalance.Node) (int, error) {
				if n++; n == 1 {
					return 0, errDown
				}
				return 0, nil
			})
			if err != nil || n != 2 {
				t.Errorf("Do() = %v after %d attempts, want an answer of the second", err, n)
			}
		}
	})
}

func TestAdmissionLetsThoseWaitWhoHaveAllTheTime(t *testing.T) {
	const far = time.Duration(1<<63 - 1)
	for _, r := range []Arrival{{Left: far}, {AttemptLeft: far}} {
		a := newAdmission(t, AdmissionPolicy{Mode: On, Algorithm: "fixed", Max: 1})
		now := time.Second
		first, err := arrive(t, a, now, r)
		if err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
		let := false
		second := &Visit{Arrival: r}
		waits, err := a.Enter(now, second, func(_ time.Duration, err *AdmissionError) { let = err == nil })
		if !waits {
			t.Fatalf("%+v does not wait: %v", r, err)
		}
		a.Tick(now)
		first.LeaveAt(now, resilience.Success)
		if !let {
			t.Errorf("%+v was not let in", r)
		}
	}
}

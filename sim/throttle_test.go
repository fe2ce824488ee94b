package sim

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
)

const window = 10 * time.Second

// throttled is a policy without repetitions whose throttle lets k attempts pass for each that is accepted. refused counts the
// others.
func throttled(k float64, refused *int) zerohop.Config {
	cfg := noRetry()
	cfg.Spec.Defaults.Throttle = zerohop.Throttle{Mode: zerohop.On, K: k, Window: window}
	cfg.Hooks.Refused = func(_ context.Context, _ zerohop.CallInfo, r zerohop.Refusal) {
		if r.Stage == zerohop.StageThrottle && r.Enforced {
			*refused++
		}
	}
	return cfg
}

// A service that accepts 1,000 of 3,000 requests gets K times as many as it accepts, and all of them again soon after there is
// less to do. B. Beyer et al., "Site Reliability Engineering", chapter 21.
func TestThrottledServiceGetsWhatItAcceptsTimesK(t *testing.T) {
	heavy(t)
	const begin, end, clients = 5 * time.Second, 25 * time.Second, 100
	for _, k := range []float64{2, 1.1} {
		refused := 0
		r := Run(t, Scenario{
			Services: map[string]Service{"s": {Workers: 20, Time: Exponential(20 * time.Millisecond), Queue: 20}},
			Clients:  []Client{{Service: "s", Rate: 500, Count: clients, Mesh: throttled(k, &refused)}},
			Faults:   []Fault{{Service: "s", At: begin, For: end - begin, Load: 6}},
			For:      end + window + 5*time.Second,
			Seed:     *seed,
		})
		s := r.Services["s"].Attempts
		warm := begin + window + time.Second // what was before is forgotten
		got, good := s.Offered(warm, end), s.Goodput(warm, end)
		d, ok := r.Recovery(end, 0.9)
		t.Logf("K %v: %.0f of %.0f attempts per second reach the service, which accepts %.0f; recovery after %v (%v)", k, got, r.Offered(warm, end), good, d, ok)
		near(t, fmt.Sprintf("attempts for each that is accepted with K = %v", k), got/good, k, 0.06)
		if good < 950 {
			t.Errorf("K %v: %.0f good per second of 1000", k, good)
		}
		if refused < int(r.Offered(warm, end)-got) {
			t.Errorf("K %v: hooks were told of %d refusals", k, refused)
		}
		if k == 2 && (!ok || d > window) { // with 1.1 it takes ten windows
			t.Errorf("K %v: recovers after %v (%v), want within the window", k, d, ok)
		}
	}
}

// Clients of a service that refuses everything ask once a second.
func TestThrottledClientsGoOnAsking(t *testing.T) {
	heavy(t)
	const clients = 100
	refused := 0
	r := Run(t, Scenario{
		Services: map[string]Service{"s": {Workers: 20}},
		Clients:  []Client{{Service: "s", Rate: 2000, Count: clients, Mesh: throttled(2, &refused)}},
		Faults:   []Fault{{Service: "s", Fail: 1}},
		For:      window,
		Seed:     *seed,
	})
	got := r.Services["s"].Attempts.Offered(window/2, 0)
	t.Logf("%.1f attempts per second of %d clients, %d refused", got, clients, refused)
	if got < 0.9*clients || got > 1.5*clients {
		t.Errorf("%.1f attempts per second of %d clients, want one of each", got, clients)
	}
}

package sim

import (
	"fmt"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
)

// Six times the load, three times what can be done: a limit that follows what the server can do keeps it doing that. Without
// one all that it does is for callers who have left.
func TestAdaptiveLimitsKeepGoodput(t *testing.T) {
	heavy(t)
	const begin, end, capacity = 10 * time.Second, 25 * time.Second, 400
	for _, tt := range []struct {
		name   string
		policy zerohop.AdmissionPolicy
		holds  bool
	}{
		{"gradient", zerohop.AdmissionPolicy{Mode: zerohop.On, Deadline: zerohop.Off, Algorithm: "gradient"}, true},
		{"aimd", zerohop.AdmissionPolicy{Mode: zerohop.On, Deadline: zerohop.Off, Algorithm: "aimd", Timeout: 250 * time.Millisecond}, true},
		{"none", zerohop.AdmissionPolicy{}, false},
	} {
		r := Run(t, Scenario{
			Services: map[string]Service{"s": {Workers: 8, Time: Exponential(20 * time.Millisecond), Admission: tt.policy}},
			Clients:  []Client{{Service: "s", Rate: capacity / 2, Timeout: 500 * time.Millisecond}},
			Faults:   []Fault{{Service: "s", At: begin, For: end - begin, Load: 6}},
			For:      end + 10*time.Second,
			Seed:     *seed,
		})
		got := r.Goodput(begin+2*time.Second, end)
		d, ok := r.Recovery(end, 0.9)
		t.Logf("%s: %.0f good per second, p99 %v, recovery after %v (%v)", tt.name, got, r.Quantile(0.99, begin, end), d, ok)
		if tt.holds != (got >= 0.9*capacity) {
			t.Errorf("%s: %.0f good per second, want nine tenths of %d: %v", tt.name, got, capacity, tt.holds)
		}
		if tt.holds {
			r.Check(t, Bounds{From: 2 * time.Second, To: begin, Success: 0.999})
			r.Check(t, Bounds{From: end, Recovery: time.Second})
		}
	}
}

// Calls of a millisecond, 1.4 times as many as can be done. If no second has a tenth less in it than can be done, nothing takes a
// tenth of a second to recover. I. Cho et al., "Overload Control for us-scale RPCs with Breakwater", 2020.
func TestShortSpikesOfShortCallsAreOverAtOnce(t *testing.T) {
	heavy(t)
	const begin, end, capacity = 4 * time.Second, 7 * time.Second, 4000
	for _, admission := range []zerohop.AdmissionPolicy{serverHalf, {}} {
		r := Run(t, Scenario{
			Services: map[string]Service{"s": {Workers: 4, Time: Exponential(time.Millisecond), Latency: Constant(50 * time.Microsecond), Admission: admission}},
			Clients:  []Client{{Service: "s", Rate: capacity * 0.7, Timeout: 100 * time.Millisecond, Mesh: noRetry()}},
			Faults:   []Fault{{Service: "s", At: begin, For: end - begin, Load: 2}},
			For:      end + 3*time.Second,
			Seed:     *seed,
		})
		holds := admission.Mode == zerohop.On
		worst := 1.0
		for at := begin; at < end; at += time.Second {
			worst = min(worst, r.Goodput(at, at+time.Second)/capacity)
		}
		name := fmt.Sprintf("server half %v", holds)
		t.Logf("%s: at least %.1f %% of the capacity in each second, p99 %v; %.2f %% ok in the second after", name, 100*worst, r.Quantile(0.99, begin, end), 100*r.Success(end, end+time.Second))
		if holds != (worst >= 0.9) {
			t.Errorf("%s: %.1f %% of the capacity in a second, want 90 %%: %v", name, 100*worst, holds)
		}
		if holds {
			r.Check(t, Bounds{From: end, To: end + time.Second, Success: 0.97, P99: 100 * time.Millisecond}) // some have come before
			r.Check(t, Bounds{From: end + time.Second, Success: 0.999})
		}
	}
}

// Everything takes twenty times as long for a minute, whatever the limit is. Soon after that all is as it was.
func TestLimitsComeBackAfterDegradation(t *testing.T) {
	heavy(t)
	const begin, end = 20 * time.Second, 80 * time.Second
	for _, algorithm := range []string{"gradient", "aimd"} {
		r := Run(t, Scenario{
			Services: map[string]Service{"s": {
				Workers: 40, Time: Exponential(10 * time.Millisecond),
				Admission: zerohop.AdmissionPolicy{Mode: zerohop.On, Algorithm: algorithm, Timeout: 500 * time.Millisecond},
			}},
			Clients: []Client{{Service: "s", Rate: 400, Timeout: time.Second}},
			Faults:  []Fault{{Service: "s", At: begin, For: end - begin, Slow: 20}},
			For:     end + 20*time.Second,
			Seed:    *seed,
		})
		d, ok := r.Recovery(end, 0.9)
		t.Logf("%s: %.0f good per second of the 200 that can be done, recovery after %v (%v), then %.2f %%", algorithm, r.Goodput(begin, end), d, ok, 100*r.Success(end+5*time.Second, 0))
		// For AIMD even the twelfth of the calls that takes more than its Timeout without any queue is too many.
		if got := r.Goodput(begin+5*time.Second, end); algorithm == "gradient" && got < 120 {
			t.Errorf("%s: %.0f good per second meanwhile, want 120", algorithm, got)
		}
		r.Check(t, Bounds{From: end, Recovery: 2 * time.Second})
		r.Check(t, Bounds{From: end + 5*time.Second, Success: 0.999})
	}
}

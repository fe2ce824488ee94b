package sim

import (
	"fmt"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
)

// One of three nodes hangs for good, with a third of what is under way, and then nobody calls any more. No caller sets a limit
// to how long he waits, and no success pays for those who are left but their own.
func TestOneHungNodeHangsNoCall(t *testing.T) {
	for _, tt := range []struct {
		inFlight float64
		before   time.Duration // the node hangs after that much traffic
		after    time.Duration // and the traffic ends after so much more
		worst    time.Duration // that a call may take
	}{
		{10, 5 * time.Second, time.Second, 5 * time.Second},
		{60, 5 * time.Second, time.Second, 6 * time.Second},
		{300, 5 * time.Second, time.Second, 10 * time.Second},
		{2000, 5 * time.Second, time.Second, 8 * time.Second},
		{60, 0, 100 * time.Millisecond, 6 * time.Second}, // at once, by a process that has just started
		{600, 0, 100 * time.Millisecond, 20 * time.Second},
	} {
		t.Run(fmt.Sprint(tt.inFlight, " in flight after ", tt.before), func(t *testing.T) {
			t.Parallel()
			rate := 2 * tt.inFlight
			if tt.before == 0 {
				rate = 10 * tt.inFlight
			}
			end := tt.before + tt.after
			r := Run(t, Scenario{
				Services: map[string]Service{"s": {Endpoints: 3, Workers: 10_000, Time: Lognormal(500*time.Millisecond, 0.3)}},
				Clients:  []Client{{Service: "s", Rate: rate}},
				Faults: []Fault{
					{Service: "s", Endpoints: []int{1}, At: tt.before, Hang: true},
					{Service: "s", At: end, Load: 1e-9},
				},
				For: end + tt.worst + time.Second,
			})
			sum, _ := r.Series.total(0, 0)
			worst := r.Quantile(1, 0, 0)
			t.Logf("%d calls, worst %v, %.3f attempts per call", sum.started, worst, r.Amplification(0, 0))
			if hung := sum.started - sum.good; hung > 0 || sum.good == 0 {
				t.Errorf("%d of %d calls hang or fail", hung, sum.started)
			}
			if worst > tt.worst {
				t.Errorf("a call takes %v, want %v at most", worst, tt.worst)
			}
			if most := 1.5; r.Amplification(0, 0) > most {
				t.Errorf("%.3f attempts per call, want at most %v", r.Amplification(0, 0), most)
			}
		})
	}
}

// hedged is the hedging that the documentation of Policy.Backup recommends.
func hedged() zerohop.Config {
	return policy(zerohop.Policy{
		Backup: zerohop.Backup{Quantile: 0.95, Factor: 1, Min: 5 * time.Millisecond},
		Budget: zerohop.Budget{Ratio: 0.05},
	})
}

// If everything becomes slow, every call is late. Next to none may be sent twice for that.
func TestSlownessIsNotHedged(t *testing.T) {
	for _, tt := range []struct {
		name  string
		mesh  func() zerohop.Config
		fault Fault
		usual float64 // extra attempts per call before
		most  float64 // and from the fault on
	}{
		{"hedging, slow network", hedged, Fault{Latency: 100 * time.Millisecond}, 0.06, 0.05},
		{"hedging, slow work", hedged, Fault{Slow: 10}, 0.06, 0.06},
		{"defaults, slow network", defaults, Fault{Latency: 100 * time.Millisecond}, 0.01, 0.05},
		{"defaults, slow work", defaults, Fault{Slow: 10}, 0.01, 0.05},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			const slow = 10 * time.Second
			f := tt.fault
			f.At, f.Service = slow, "s"
			r := Run(t, Scenario{
				Services: map[string]Service{"s": {Endpoints: 5, Workers: 1000, Time: Lognormal(10*time.Millisecond, 0.5)}},
				Clients:  []Client{{Service: "s", Rate: 500, Mesh: tt.mesh()}},
				Faults:   []Fault{f},
				For:      40 * time.Second,
			})
			before, from := r.Amplification(2*time.Second, slow)-1, r.Amplification(slow, 0)-1
			first := r.Amplification(slow, slow+5*time.Second) - 1
			t.Logf("%.2f %% before, %.2f %% in the first five seconds, %.2f %% from then on", 100*before, 100*first, 100*from)
			if before > tt.usual {
				t.Errorf("%.2f %% of calls are sent twice, want %.0f %% at most", 100*before, 100*tt.usual)
			}
			if max(first, from) > tt.most {
				t.Errorf("%.2f %% of calls are sent twice when everything is slow, want %.0f %% at most", 100*max(first, from), 100*tt.most)
			}
		})
	}
}

// While everything fails, retries add a fifth at most, and in no ten seconds more than that and three per second.
func TestOutagesAreNotAmplified(t *testing.T) {
	const down, up = 10 * time.Second, 40 * time.Second
	for _, rate := range []float64{2, 20, 300} {
		for name, f := range map[string]Fault{
			"failing": {Fail: 1}, "half of it failing": {Fail: 0.5}, "hung": {Hang: true}, "gone": {Kill: true}, "unreachable": {Partition: true},
		} {
			t.Run(fmt.Sprint(name, " at ", rate), func(t *testing.T) {
				t.Parallel()
				f.At, f.For, f.Service = down, up-down, "s"
				r := Run(t, Scenario{
					Services: map[string]Service{"s": {Endpoints: 3, Workers: 1000, Time: Lognormal(10*time.Millisecond, 0.5)}},
					Clients:  []Client{{Service: "s", Rate: rate, Timeout: time.Second}},
					Faults:   []Fault{f},
					For:      50 * time.Second,
				})
				got, most := r.Amplification(0, 0), 1.2
				if f.Kill { // what is not sent is no load: a burst of it is free
					most += 100 / float64(r.Started(0, 0))
				} else {
					most += 5 / float64(r.Started(0, 0))
				}
				t.Logf("%.4f attempts per call", got)
				if got > most {
					t.Errorf("%.3f attempts per call, want %.3f at most", got, most)
				}
				for at := down; at < 50*time.Second && !f.Kill; at += time.Second {
					calls := r.Started(at-10*time.Second, at)
					if extra := float64(r.Attempts(at-10*time.Second, at) - calls); extra > 0.2*float64(calls)+30 {
						t.Errorf("%v extra attempts for %d calls in the ten seconds before %v", extra, calls, at)
					}
				}
			})
		}
	}
}

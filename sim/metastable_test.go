package sim

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// brownOut is a service of 1,000 calls per second at most, half of which it loses for ten seconds, and callers that wait
// half a second for an attempt: how retries turn a short fault into an outage without end. See N. Bronson et al.,
// "Metastable Failures in Distributed Systems", 2021.
func brownOut(rate float64, seed uint64, mesh zerohop.Config) Scenario {
	mesh.Spec.Defaults.AttemptTimeout = 500 * time.Millisecond
	return Scenario{
		Services: map[string]Service{"s": {Workers: 20, Time: Exponential(20 * time.Millisecond)}},
		Clients:  []Client{{Service: "s", Rate: rate, Mesh: mesh}},
		Faults:   []Fault{{Service: "s", At: 20 * time.Second, For: 10 * time.Second, Capacity: 0.5}},
		For:      100 * time.Second,
		Seed:     seed,
	}
}

const afterFault = 30 * time.Second

func policy(p zerohop.Policy) zerohop.Config { return zerohop.Config{Spec: zerohop.Spec{Defaults: p}} }

func noRetry() zerohop.Config { return policy(zerohop.Policy{Retry: zerohop.Retry{Attempts: 1}}) }

func defaults() zerohop.Config { return zerohop.Config{} }

// storm repeats three times, at once, whatever the budget says.
func storm() zerohop.Config {
	return policy(zerohop.Policy{
		Retry:  zerohop.Retry{Attempts: 4, Base: 1, Max: 1},
		Budget: zerohop.Budget{Mode: zerohop.Off}, Backup: zerohop.Backup{Mode: zerohop.Off},
	})
}

// jitteredStorm pauses in between.
func jitteredStorm() zerohop.Config {
	cfg := storm()
	cfg.Spec.Defaults.Retry = zerohop.Retry{Attempts: 4, Base: 25 * time.Millisecond, Max: 250 * time.Millisecond}
	return cfg
}

// within is a storm within a budget.
func within(b zerohop.Budget) func() zerohop.Config {
	return func() zerohop.Config {
		cfg := storm()
		cfg.Spec.Defaults.Budget = b
		return cfg
	}
}

// Policies that are known to keep a service down do so here, too, and those that recover take as long as the queue that the
// fault has left takes to drain: what they send on top is less that drains.
func TestBrownOutIsRecoveredFromByGoodPoliciesOnly(t *testing.T) {
	heavy(t)
	const never = -1
	ratio := func(share, floor float64) func() zerohop.Config {
		return within(zerohop.Budget{Kind: resilience.BudgetRatio, Ratio: share, Floor: floor})
	}
	active := within(zerohop.Budget{Kind: resilience.BudgetConcurrent, Ratio: 0.2, Floor: 3})
	for _, tt := range []struct {
		name        string
		mesh        func() zerohop.Config
		clients     int
		rate        float64
		least, most int // seconds to recover
	}{
		{"storm", storm, 1, 700, never, never},
		{"storm", storm, 1, 900, never, never},
		{"storm with pauses", jitteredStorm, 1, 820, never, never},
		{"20 % of requests", ratio(0.2, -1), 1, 700, 14, 22},
		{"20 % of requests", ratio(0.2, -1), 1, 780, 45, 69},
		{"20 % of requests", ratio(0.2, -1), 1, 820, never, never},
		{"20 % of requests", ratio(0.2, -1), 1, 900, never, never},
		{"20 % of requests and 10 per second", ratio(0.2, 10), 1, 700, 15, 24},
		{"20 % of requests and 10 per second", ratio(0.2, 10), 1, 780, 50, 80},
		{"20 % of requests and 10 per second", ratio(0.2, 10), 1, 820, never, never},
		{"20 % of requests and 10 per second each of ten", ratio(0.2, 10), 10, 700, 40, 85},
		{"20 % of requests and 10 per second each of ten", ratio(0.2, 10), 10, 780, never, never},
		{"20 % of active, 3 at least", active, 1, 700, 20, 30},
		{"20 % of active, 3 at least", active, 1, 780, never, never},
		{"10 % of requests", ratio(0.1, -1), 1, 900, never, never},
	} {
		t.Run(fmt.Sprint(tt.name, " at ", tt.rate), func(t *testing.T) {
			t.Parallel()
			s := brownOut(tt.rate, *seed+1, tt.mesh())
			s.Clients[0].Count = tt.clients
			switch {
			case tt.least != never:
				s.For = afterFault + time.Duration(tt.most+10)*time.Second
			case tt.rate > 780 || strings.HasPrefix(tt.name, "storm"):
				s.For = 60 * time.Second // is long enough to see that nothing gets better
			}
			r := Run(t, s)
			d, ok := r.Recovery(afterFault, 0.9)
			t.Logf("recovery %v (%v), at the end %.0f good and %.0f attempts per second", d, ok,
				r.Goodput(s.For-20*time.Second, 0), float64(r.Attempts(s.For-20*time.Second, 0))/20)
			switch {
			case tt.least == never && ok:
				t.Errorf("recovers after %v, want never", d)
			case tt.least != never && (!ok || d < time.Duration(tt.least)*time.Second || d > time.Duration(tt.most)*time.Second):
				t.Errorf("recovers after %v (%v), want %d to %d s", d, ok, tt.least, tt.most)
			}
		})
	}
}

// Successes fill the budget of the defaults. While everything fails there is none, and the service is left alone to drain
// its queue as it is without any retry. Near the limit little drains, and the second in which goodput is back for good is a
// matter of luck; how many calls are lost in all is not.
func TestDefaultsRecoverAsFastAsNoRetry(t *testing.T) {
	heavy(t)
	for _, tt := range []struct {
		rate        float64
		least, most int // seconds to recover without retries
	}{{700, 4, 8}, {780, 9, 14}, {820, 12, 20}, {900, 25, 50}, {950, 45, 120}} {
		t.Run(fmt.Sprint(tt.rate), func(t *testing.T) {
			t.Parallel()
			run := func(name string, mesh func() zerohop.Config, length time.Duration) (*Result, time.Duration) {
				s := brownOut(tt.rate, *seed+1, mesh())
				s.For = length
				r := Run(t, s)
				d, ok := r.Recovery(afterFault, 0.9)
				t.Logf("%s: recovery after %v (%v); %.5f attempts per call", name, d, ok, r.Amplification(0, 0))
				if !ok {
					t.Errorf("%s: never recovers", name)
				}
				r.Check(t, Bounds{Amplification: 1.01})
				return r, d
			}
			plain, want := run("no retry", noRetry, afterFault+time.Duration(tt.most+10)*time.Second)
			if want < time.Duration(tt.least)*time.Second || want > time.Duration(tt.most)*time.Second {
				t.Errorf("recovers after %v without retries, want %d to %d s", want, tt.least, tt.most)
			}
			length := afterFault + want + 8*time.Second
			compare := func(name string, mesh func() zerohop.Config) {
				r, got := run(name, mesh, length)
				later := (plain.Goodput(0, length) - r.Goodput(0, length)) * length.Seconds() / tt.rate
				t.Logf("%s: as many calls are lost as come in %.2f s", name, later)
				if got > want+2*time.Second || later > 1 {
					t.Errorf("%s: recovers after %v and loses as many calls as come in %.2f s, want %v and 1 s at most", name, got, later, want)
				}
			}
			compare("defaults", defaults)
			if tt.rate == 820 { // what pays decides, not how often and when it is repeated
				compare("success", within(zerohop.Budget{Kind: resilience.BudgetSuccess}))
				compare("grpc", within(zerohop.Budget{Kind: resilience.BudgetGRPC}))
			}
		})
	}
}

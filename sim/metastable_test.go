package sim

import (
	"context"
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

// perRequest is a storm within a budget that every call pays into, whether it succeeds or not, as Finagle, Linkerd and the
// Gateway API have it.
func perRequest(share float64) func() zerohop.Config {
	return func() zerohop.Config {
		cfg := storm()
		tokens := 0.0
		cfg.Hooks.CallStart = func(ctx context.Context, _ zerohop.CallInfo) context.Context {
			tokens = min(tokens+share, 100)
			return ctx
		}
		cfg.Classify = func(_ zerohop.CallInfo, _ zerohop.AttemptResult, v resilience.Verdict) resilience.Verdict {
			if v.Outcome != resilience.Success && v.Retry {
				if v.Retry = tokens >= 1; v.Retry {
					tokens--
				}
			}
			return v
		}
		return cfg
	}
}

// perActive is a storm in which one in five of the attempts under way may be a retry, and three in any case, as Envoy has it.
func perActive() zerohop.Config {
	cfg := storm()
	active, retries := 0, 0
	cfg.Hooks.AttemptStart = func(ctx context.Context, _ zerohop.CallInfo, a zerohop.AttemptInfo) context.Context {
		active++
		if a.Number > 0 {
			retries++
		}
		return ctx
	}
	cfg.Hooks.AttemptDone = func(_ context.Context, _ zerohop.CallInfo, a zerohop.AttemptInfo, _ zerohop.AttemptResult) {
		active--
		if a.Number > 0 {
			retries--
		}
	}
	cfg.Classify = func(_ zerohop.CallInfo, _ zerohop.AttemptResult, v resilience.Verdict) resilience.Verdict {
		v.Retry = v.Retry && float64(retries) < max(3, 0.2*float64(active))
		return v
	}
	return cfg
}

// Policies that are known to keep a service down do so here, too, and those that recover take as long as the queue that the
// fault has left takes to drain.
func TestBrownOutIsRecoveredFromByGoodPoliciesOnly(t *testing.T) {
	heavy(t)
	const never = -1
	for _, tt := range []struct {
		name        string
		mesh        func() zerohop.Config
		rate        float64
		least, most int // seconds to recover
	}{
		{"storm", storm, 700, never, never},
		{"storm", storm, 900, never, never},
		{"storm with pauses", jitteredStorm, 780, never, never},
		{"20 % of requests", perRequest(0.2), 700, 14, 22},
		{"20 % of requests", perRequest(0.2), 820, never, never},
		{"20 % of requests", perRequest(0.2), 900, never, never},
		{"10 % of requests", perRequest(0.1), 900, never, never},
		{"20 % of active", perActive, 820, never, never},
	} {
		t.Run(fmt.Sprint(tt.name, " at ", tt.rate), func(t *testing.T) {
			t.Parallel()
			s := brownOut(tt.rate, 5, tt.mesh())
			if strings.HasPrefix(tt.name, "storm") {
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

// The budget of the defaults is filled by successes. While everything fails there is none, and the service is left alone to
// drain its queue as it is without any retry.
func TestDefaultsRecoverAsFastAsNoRetry(t *testing.T) {
	heavy(t)
	for _, tt := range []struct {
		rate        float64
		least, most int // seconds to recover without retries
	}{{700, 4, 8}, {780, 9, 14}, {820, 13, 19}, {900, 27, 42}, {950, 45, 90}} {
		t.Run(fmt.Sprint(tt.rate), func(t *testing.T) {
			t.Parallel()
			plain, with := brownOut(tt.rate, 5, noRetry()), brownOut(tt.rate, 5, defaults())
			if tt.rate > 900 { // 4,500 calls are left over, and 50 per second are what drains
				plain.For, with.For = 150*time.Second, 150*time.Second
			}
			want, ok := Run(t, plain).Recovery(afterFault, 0.9)
			if !ok || want < time.Duration(tt.least)*time.Second || want > time.Duration(tt.most)*time.Second {
				t.Fatalf("recovers after %v (%v) without retries, want %d to %d s", want, ok, tt.least, tt.most)
			}
			r := Run(t, with)
			r.Check(t, Bounds{From: afterFault, Recovery: want + time.Second})
			r.Check(t, Bounds{Amplification: 1.01})
			got, _ := r.Recovery(afterFault, 0.9)
			t.Logf("recovery after %v, %v without retries; %.5f attempts per call", got, want, r.Amplification(0, 0))
		})
	}
}

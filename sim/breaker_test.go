package sim

import (
	"context"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
)

// broken is a policy with a circuit breaker of the service. refused counts what it keeps from being sent.
func broken(b zerohop.Breaker, refused *int) zerohop.Config {
	b.Mode = zerohop.On
	cfg := policy(zerohop.Policy{ServiceBreaker: b})
	cfg.Hooks.Refused = func(_ context.Context, _ zerohop.CallInfo, r zerohop.Refusal) {
		if r.Stage == zerohop.StageBreaker && r.Enforced {
			*refused++
		}
	}
	return cfg
}

// One bad endpoint of ten is the business of its own breaker and of the balancer. A service that fails as a whole is left alone,
// and found to be well again after one more time that the breaker was open.
func TestServiceBreakerSeesTheServiceAndNotOneEndpoint(t *testing.T) {
	heavy(t)
	const begin, end, openFor = 10 * time.Second, 20 * time.Second, 2 * time.Second
	run := func(endpoints []int, p zerohop.Policy) (*Result, int) {
		refused := 0
		cfg := broken(zerohop.Breaker{MaxOpenFor: openFor}, &refused)
		cfg.Spec.Defaults.Outlier, cfg.Spec.Defaults.Balance = p.Outlier, p.Balance
		r := Run(t, Scenario{
			Services: map[string]Service{"s": {Endpoints: 10, Workers: 8, Time: Exponential(20 * time.Millisecond)}},
			Clients:  []Client{{Service: "s", Rate: 500, Count: 5, Mesh: cfg}},
			Faults:   []Fault{{Service: "s", Endpoints: endpoints, At: begin, For: end - begin, Fail: 1}},
			For:      end + 15*time.Second,
			Seed:     *seed,
		})
		return r, refused
	}
	for name, p := range map[string]zerohop.Policy{
		"by default": {}, "at random": {Balance: "random", Outlier: zerohop.Outlier{Mode: zerohop.Off}},
	} {
		if r, refused := run([]int{3}, p); refused > 0 {
			t.Errorf("%s: one bad endpoint of ten opens the breaker, which refuses %d attempts\n%s", name, refused, r)
		}
	}
	r, refused := run(nil, zerohop.Policy{})
	sent := r.Services["s"].Attempts.Offered(begin+6*time.Second, end) // until then half of the window was well
	d, ok := r.Recovery(end, 0.9)
	t.Logf("%.1f attempts per second while all fail, %d refused; recovery after %v (%v)", sent, refused, d, ok)
	if sent > 25 {
		t.Errorf("%.1f attempts per second reach a service that is down, want 5 %% of 500 at most", sent)
	}
	if !ok || d > 2*openFor {
		t.Errorf("recovers after %v (%v), want within %v", d, ok, 2*openFor)
	}
}

// Below the failures that a bucket of retries pays for it repeats all of them, above hardly any, as long as clients are not so
// small that they live on what the bucket begins with. Breakers need a volume to go by, which small clients have not, and so
// do not mistake a bad moment for an outage. M. Brooker, "Fixing retries with token buckets and circuit breakers", 2022.
func TestManySmallClientsRepeatLittleMore(t *testing.T) {
	heavy(t)
	const rate, length, tokens = 500.0, 30 * time.Second, 10
	for _, clients := range []int{10, 100, 1000} {
		for _, f := range []float64{0.05, 0.3, 0.8} {
			refused := 0
			s := failing(f, rate, length, zerohop.Policy{Retry: zerohop.Retry{Attempts: 4}})
			s.Clients[0].Count = clients
			cfg := s.Clients[0].Mesh
			s.Clients[0].Mesh = broken(zerohop.Breaker{}, &refused)
			s.Clients[0].Mesh.Spec = cfg.Spec
			bucket := Run(t, s)
			s.Clients[0].Mesh.Spec.Defaults.ServiceBreaker = zerohop.Breaker{Mode: zerohop.On}
			both := Run(t, s)
			calls := bucket.Started(0, 0)
			extra := bucket.Amplification(0, 0) - 1
			t.Logf("%d clients, %.0f %% failures: %.3f attempts per call; with a breaker %.3f, which refuses %.2f %% of the calls", clients, 100*f,
				1+extra, both.Amplification(0, 0), 100*float64(refused)/float64(calls))
			free := float64(clients) * tokens / 2 / float64(calls)
			switch {
			case f < 0.09:
				near(t, "attempts per call", 1+extra, (1-f*f*f*f)/(1-f), 0.02)
			case extra > 0.1+free:
				t.Errorf("%d clients, %.0f %% failures: %.3f attempts per call, want %.3f at most", clients, 100*f, 1+extra, 1.1+free)
			}
			if f < 0.4 && float64(refused) > 0.05*float64(calls) {
				t.Errorf("%d clients, %.0f %% failures: the breaker refuses %d of %d calls, want 5 %% at most", clients, 100*f, refused, calls)
			}
		}
	}
}

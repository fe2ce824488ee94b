package sim

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// What is known of queues and of retries in closed form comes out of simulations, too.

// near reports a value that is not within the share off of what is known.
func near(t *testing.T, what string, got, want, off float64) {
	t.Helper()
	t.Logf("%s = %.4f, in theory %.4f", what, got, want)
	if !(math.Abs(got/want-1) <= off) {
		t.Errorf("%s = %.4f, want %.4f within %.0f %%", what, got, want, 100*off)
	}
}

// erlang returns the mean time in a system of c workers that are busy for the part load of the time, in times of service: Erlang's
// formula C for M/M/c.
func erlang(c int, load float64) float64 {
	a := load * float64(c)
	term, sum := 1.0, 1.0 // a^k/k!
	for k := 1; k < c; k++ {
		term *= a / float64(k)
		sum += term
	}
	last := term * a / float64(c) / (1 - load)
	return 1 + last/(sum+last)/(float64(c)*(1-load))
}

func TestQueueIsAsErlangSays(t *testing.T) {
	heavy(t)
	const mean = 10 * time.Millisecond
	for _, tt := range []struct {
		endpoints, workers int
		load               float64
		length             time.Duration
	}{
		{20, 1, 0.5, 120 * time.Second}, // at random that is twenty queues of M/M/1
		{1, 10, 0.7, 100 * time.Second},
		{1, 10, 0.8, 150 * time.Second},
	} {
		p := noRetry()
		p.Spec.Defaults.Balance = "random"
		r := Run(t, Scenario{
			Services: map[string]Service{"s": {Endpoints: tt.endpoints, Workers: tt.workers, Time: Exponential(mean), Latency: Constant(0)}},
			Clients:  []Client{{Service: "s", Rate: tt.load * float64(tt.endpoints*tt.workers) / mean.Seconds(), Mesh: p}},
			For:      tt.length,
			Seed:     *seed,
		})
		near(t, fmt.Sprintf("mean time of %d workers at load %v, in times of service", tt.workers, tt.load),
			r.Mean(2*time.Second, 0).Seconds()/mean.Seconds(), erlang(tt.workers, tt.load), 0.02)
	}
}

// supermarket returns the mean time in a system of many queues in which each call joins the shorter one of d, in times of
// service. M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001.
func supermarket(d int, load float64) (sum float64) {
	exponent := 0.0 // (d^i - d) / (d - 1)
	for power := float64(d); ; power *= float64(d) {
		term := math.Pow(load, exponent)
		if sum += term; term < 1e-9 {
			return sum
		}
		exponent += power
	}
}

func TestTwoChoicesAreAsGoodAsTheySay(t *testing.T) {
	heavy(t)
	for _, load := range []float64{0.5, 0.7} {
		r := Run(t, Scenario{
			Services: map[string]Service{"s": {Endpoints: 100, Time: Exponential(10 * time.Millisecond), Latency: Constant(0)}},
			Clients: []Client{{Service: "s", Rate: 10_000 * load, Mesh: policy(zerohop.Policy{
				Balance: "least-request", Backup: zerohop.Backup{Mode: zerohop.Off},
			})}},
			For:  12 * time.Second,
			Seed: *seed,
		})
		near(t, fmt.Sprintf("mean time at load %v, in times of service", load),
			r.Mean(2*time.Second, 0).Seconds()/0.010, supermarket(2, load), 0.02)
	}
}

// failing is a service that fails a share of all requests, at once.
func failing(share, rate float64, length time.Duration, p zerohop.Policy) Scenario {
	p.Outlier.Mode, p.Backup.Mode = zerohop.Off, zerohop.Off
	p.Retry.Base, p.Retry.Max = 1, 1
	return Scenario{
		Services: map[string]Service{"s": {Workers: 1000, Bare: true}},
		Clients:  []Client{{Service: "s", Rate: rate, Mesh: policy(p)}},
		Faults:   []Fault{{Service: "s", Fail: share}},
		For:      length,
		Seed:     *seed,
	}
}

// A call of at most n attempts makes 1 + f + f^2 + ... of them where a share f fails.
func TestAttemptsArePowersOfFailures(t *testing.T) {
	const tries = 4
	for _, f := range []float64{0.05, 0.1, 0.5, 1} {
		r := Run(t, failing(f, 1000, 10*time.Second, zerohop.Policy{
			Retry: zerohop.Retry{Attempts: tries}, Budget: zerohop.Budget{Mode: zerohop.Off},
		}))
		want := 0.0
		for i := range tries {
			want += math.Pow(f, float64(i))
		}
		near(t, fmt.Sprintf("attempts per call where %v fail", f), r.Amplification(0, 0), want, 0.01)
		if f < 1 {
			near(t, "their success", r.Success(0, 0), 1-math.Pow(f, tries), 0.01)
		}
	}
}

// Layers that repeat multiply each other.
func TestLayersMultiplyAttempts(t *testing.T) {
	for _, tt := range []struct{ tries, depth int }{{4, 5}, {3, 5}, {5, 3}} {
		s := chain(tt.depth, 2, 12*time.Second, true, func() zerohop.Config {
			cfg := storm()
			cfg.Spec.Defaults.Retry.Attempts = tt.tries
			cfg.Spec.Defaults.Outlier.Mode = zerohop.Off
			return cfg
		})
		s.Faults = append(s.Faults, Fault{Service: "s0", At: 4 * time.Second, Load: 1e-9}) // so that all calls end
		r := Run(t, s)
		near(t, fmt.Sprintf("attempts at the end of %d layers that try %d times", tt.depth, tt.tries),
			atLeaf(r), math.Pow(float64(tt.tries), float64(tt.depth)), 0.02)
	}
}

// With a budget of a share of the calls each layer adds that share to what comes from above.
func TestLayersMultiplyBudgets(t *testing.T) {
	heavy(t)
	for _, share := range []float64{0.1, 0.2} {
		r := Run(t, chain(5, 100, 30*time.Second, true, func() zerohop.Config {
			cfg := within(zerohop.Budget{Kind: resilience.BudgetRatio, Ratio: share, Floor: -1})()
			cfg.Spec.Defaults.Outlier.Mode = zerohop.Off
			return cfg
		}))
		near(t, fmt.Sprintf("attempts at the end of 5 layers with budgets of %v", share), atLeaf(r), math.Pow(1+share, 5), 0.02)
	}
}

// A budget grants all repetitions up to a share of failures, and what it takes in beyond.
func TestBudgetsBreakEven(t *testing.T) {
	heavy(t)
	for _, tt := range []struct {
		budget zerohop.Budget
		even   float64 // share of attempts that fail
		beyond float64 // attempts per call
	}{
		// In the long run r successes pay for a failure each, whether or not that is repeated: beyond there are none.
		{zerohop.Budget{Kind: resilience.BudgetSuccess, Tokens: 100, Ratio: 0.1}, 0.1 / 1.1, 1},
		{zerohop.Budget{Kind: resilience.BudgetGRPC, Tokens: 100, Ratio: 0.1}, 0.1 / 1.1, 1},
		{zerohop.Budget{Kind: resilience.BudgetRatio, Ratio: 0.1, Floor: -1}, 0.1 / 1.1, 1.1},
		{zerohop.Budget{Kind: resilience.BudgetRatio, Ratio: 0.2, Floor: -1}, 0.2 / 1.2, 1.2},
	} {
		run := func(f float64) *Result {
			return Run(t, failing(f, 1000, 40*time.Second, zerohop.Policy{Retry: zerohop.Retry{Attempts: 5}, Budget: tt.budget}))
		}
		below, above := run(0.8*tt.even), run(1.4*tt.even)
		f := 0.8 * tt.even
		name := fmt.Sprintf("%s of %v: attempts per call ", tt.budget.Kind, tt.budget.Ratio)
		near(t, name+"below", below.Amplification(20*time.Second, 0), (1-math.Pow(f, 5))/(1-f), 0.01)
		near(t, name+"beyond", above.Amplification(20*time.Second, 0), tt.beyond, 0.01)
	}
}

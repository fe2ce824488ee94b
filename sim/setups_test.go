package sim

import (
	"fmt"
	"maps"
	"math"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
)

// chain is one of so many services, the last of which fails. Each repeats what fails.
func chain(depth int, rate float64, length time.Duration, bare bool, mesh func() zerohop.Config) Scenario {
	s := Scenario{
		Services: map[string]Service{},
		Faults:   []Fault{{Service: fmt.Sprint("s", depth-1), Fail: 1}},
		For:      length,
		Seed:     *seed,
	}
	for i := range depth {
		v := Service{Endpoints: 3, Workers: 100, Time: Constant(time.Millisecond), Bare: bare, Mesh: mesh()}
		if i < depth-1 {
			v.Calls = []Call{{Service: fmt.Sprint("s", i+1)}}
		}
		s.Services[fmt.Sprint("s", i)] = v
	}
	s.Clients = []Client{{Service: "s0", Rate: rate, Mesh: mesh()}}
	return s
}

// atLeaf returns the attempts at the end of a chain per call of a client that is over.
func atLeaf(r *Result) float64 {
	all, _ := r.total(0, 0)
	return float64(r.Services[fmt.Sprint("s", len(r.Services)-1)].Attempts.Started(0, 0)) / float64(all.good+all.failed)
}

// If every layer of five repeats twice what fails below, each request becomes 243.
func TestChainDoesNotMultiplyAnOutage(t *testing.T) {
	heavy(t)
	down := chain(5, 100, time.Minute, false, defaults)
	full := chain(5, 300, 20*time.Second, false, defaults) // of 60 that it can do
	full.Faults = nil
	leaf := full.Services["s4"]
	leaf.Workers, leaf.Time, leaf.Queue = 1, Exponential(50*time.Millisecond), 10
	full.Services["s4"] = leaf
	full.Clients[0].Timeout = time.Second
	late := full
	late.Services = maps.Clone(full.Services)
	leaf.Queue = 0
	late.Services["s4"] = leaf
	for _, tt := range []struct {
		name string
		s    Scenario
		most float64
	}{{"down", down, 1.01}, {"full", full, 1.2}, {"late", late, 1.2}} {
		r := Run(t, tt.s)
		t.Logf("%s: %.4f attempts at the end of the chain per call, %.1f of %.1f good per second", tt.name, atLeaf(r), r.Goodput(2*time.Second, 0), r.Offered(0, 0))
		if got := atLeaf(r); !(got <= tt.most) {
			t.Errorf("%s: %.3f attempts at the end of the chain per call, want at most %v\n%s", tt.name, got, tt.most, r)
		}
	}
}

// Of a hundred leaves that stall once in a hundred calls, two of three callers see one.
// J. Dean, L. Barroso, "The Tail at Scale", 2013.
func TestHedgingCutsTheTailOfFanOuts(t *testing.T) {
	heavy(t)
	run := func(p zerohop.Policy) *Result {
		p.SlowStart.Mode = zerohop.Off
		return Run(t, Scenario{
			Services: map[string]Service{
				"front": {Workers: 1000, Calls: []Call{{Service: "leaf", Times: 100}}, Mesh: policy(p)},
				"leaf": {
					Endpoints: 10, Workers: 1000,
					Time: Mix(Lognormal(5*time.Millisecond, 0.3), 0.01, Pareto(100*time.Millisecond, 1.1)),
				},
			},
			Clients: []Client{{Service: "front", Rate: 100, Mesh: policy(zerohop.Policy{Backup: zerohop.Backup{Mode: zerohop.Off}})}},
			For:     25 * time.Second,
			Seed:    *seed,
		})
	}
	const warm = 5 * time.Second
	const stall = 50 * time.Millisecond // and more
	plain := run(zerohop.Policy{Backup: zerohop.Backup{Mode: zerohop.Off}})
	hedged := run(zerohop.Policy{
		Backup: zerohop.Backup{Quantile: 0.985, Factor: 1, Min: 10 * time.Millisecond},
		Retry:  zerohop.Retry{Attempts: 4},
		Budget: zerohop.Budget{Tokens: 1000, Ratio: 0.05},
	})
	before, after := plain.Quantile(0.999, warm, 0), hedged.Quantile(0.999, warm, 0)
	extra := hedged.Services["front"].Calls.Amplification(warm, 0) - 1
	t.Logf("p99.9 %v, hedged %v for %.2f %% more calls", before, after, 100*extra)
	slow := 1 - math.Pow(0.99, 100)
	if plain.Quantile(1-slow-0.02, 0, 0) > stall || plain.Quantile(1-slow+0.02, 0, 0) < stall {
		t.Errorf("the part of fan-outs that takes longer than %v is not %.3f, give or take 0.02: median %v", stall, slow, plain.Quantile(0.5, 0, 0))
	}
	if before < 10*after {
		t.Errorf("p99.9 of fan-outs is %v, hedged %v, want a tenth at most", before, after)
	}
	if extra > 0.02 {
		t.Errorf("%.2f %% more calls, want 2 %% at most", 100*extra)
	}
}

// Where a call is slow because there is much to do, another one makes it slower.
func TestHedgesVanishNearSaturation(t *testing.T) {
	heavy(t)
	const workers, mean = 40, 5665 * time.Microsecond
	for _, tt := range []struct{ load, most float64 }{{0.5, 0.05}, {0.9, 0.02}, {0.98, 0.012}} {
		r := Run(t, Scenario{
			Services: map[string]Service{"s": {Endpoints: 10, Workers: workers / 10, Time: Lognormal(5*time.Millisecond, 0.5)}},
			Clients: []Client{{Service: "s", Rate: tt.load * workers / mean.Seconds(), Mesh: policy(zerohop.Policy{
				Backup: zerohop.Backup{Quantile: 0.95, Factor: 1, Min: time.Millisecond}, Budget: zerohop.Budget{Ratio: 0.05},
			})}},
			For:  6 * time.Second,
			Seed: *seed,
		})
		got := r.Amplification(2*time.Second, 0) - 1
		t.Logf("load %v: %.3f %% more calls", tt.load, 100*got)
		if got > tt.most {
			t.Errorf("load %v: %.2f %% more calls, want %.1f %% at most", tt.load, 100*got, 100*tt.most)
		}
		if tt.load == 0.5 && got < 0.01 {
			t.Errorf("load %v: %.2f %% more calls, want some", tt.load, 100*got)
		}
	}
}

// An endpoint that fails at once looks fast, and idle.
func TestFastFailuresAttractNoCalls(t *testing.T) {
	heavy(t)
	run := func(clients int, p zerohop.Policy) *Result {
		return Run(t, Scenario{
			Services: map[string]Service{"s": {Endpoints: 10, Workers: 8, Time: Exponential(50 * time.Millisecond)}},
			Clients:  []Client{{Service: "s", Rate: 400, Count: clients, Mesh: policy(p)}},
			Faults:   []Fault{{Service: "s", Endpoints: []int{3}, At: 10 * time.Second, Fail: 1}},
			For:      40 * time.Second,
		})
	}
	for _, tt := range []struct {
		name    string
		clients int
		policy  zerohop.Policy
		most    float64
	}{
		{"defaults, 1 client", 1, zerohop.Policy{}, 0.01},
		{"defaults, 10 clients", 10, zerohop.Policy{}, 0.01},
		{"penalty alone", 1, zerohop.Policy{Outlier: zerohop.Outlier{Mode: zerohop.Off}}, 0.01},
	} {
		r := run(tt.clients, tt.policy)
		got := r.Services["s"].Share(3, 12*time.Second, 0)
		t.Logf("%s: %.3f %% of the attempts", tt.name, 100*got)
		if got > tt.most {
			t.Errorf("%s: %.2f %% of the attempts go to the endpoint that fails, want %.0f %% at most", tt.name, 100*got, 100*tt.most)
		}
		r.Check(t, Bounds{From: 12 * time.Second, Success: 0.9999})
	}
	random := run(1, zerohop.Policy{Balance: "random", Outlier: zerohop.Outlier{Mode: zerohop.Off}})
	if got := random.Services["s"].Share(3, 12*time.Second, 0); got < 0.09 {
		t.Errorf("at random it gets %.2f %%, want a tenth", 100*got)
	}
}

// A server that does not begin what it cannot finish in time loses no work to callers who leave, so that half of its
// capacity is half of its goodput, and nothing is left to recover from. Even a storm of retries does not change that.
func TestAdmissionByDeadlineKeepsGoodput(t *testing.T) {
	heavy(t)
	run := func(rate float64, mesh zerohop.Config, least time.Duration, lifo bool) *Result {
		return Run(t, Scenario{
			Services: map[string]Service{"s": {Workers: 20, Time: Exponential(20 * time.Millisecond), MinTime: least, LIFO: lifo}},
			Clients:  []Client{{Service: "s", Rate: rate, Timeout: 500 * time.Millisecond, Mesh: mesh}},
			Faults:   []Fault{{Service: "s", At: 20 * time.Second, For: 10 * time.Second, Capacity: 0.5}},
			For:      60 * time.Second,
		})
	}
	const least = 50 * time.Millisecond
	for _, rate := range []float64{700, 900} {
		for _, tt := range []struct {
			name string
			mesh zerohop.Config
			lifo bool
		}{{"defaults", defaults(), false}, {"storm", storm(), false}, {"storm, last first", storm(), true}} {
			r := run(rate, tt.mesh, least, tt.lifo)
			d, _ := r.Recovery(afterFault, 0.9)
			t.Logf("%s at %v: %.0f good per second during the fault, recovery after %v", tt.name, rate, r.Goodput(21*time.Second, afterFault), d)
			r.Check(t, Bounds{From: 21 * time.Second, To: afterFault, Goodput: 430})
			r.Check(t, Bounds{From: afterFault, Recovery: time.Second})
		}
		if r := run(rate, defaults(), 0, false); r.Goodput(23*time.Second, afterFault) > 100 {
			t.Errorf("without it goodput is %.0f during the fault at %v, want next to nothing", r.Goodput(23*time.Second, afterFault), rate)
		}
	}
}

package sim

import (
	"flag"
	"reflect"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
)

var seeds = flag.Int("seeds", 200, "seeds that TestDefaultsSurviveRandomFaults tries")

// random is a scenario of about 2,000 calls through two services with five faults, and the policies that they are to
// survive.
func random(seed uint64) Scenario {
	s := Scenario{
		Services: map[string]Service{
			"front": {Endpoints: 4, Workers: 8, Time: Lognormal(5*time.Millisecond, 0.5), Queue: 200, Calls: []Call{{Service: "back"}}},
			"back":  {Endpoints: 4, Workers: 8, Time: Exponential(5 * time.Millisecond), Queue: 200},
		},
		Clients: []Client{
			{Service: "front", Rate: 70, Count: 1 + int(seed%3), Timeout: time.Second},
			{Service: "back", Rate: 30, Unsafe: true, Timeout: 2 * time.Second},
		},
		For:  20 * time.Second,
		Seed: seed,
	}
	if seed%3 == 0 {
		s.Grain = time.Millisecond
	}
	switch seed / 3 % 4 {
	case 1:
		s.Clients[0].Mesh = policy(zerohop.Policy{Breaker: zerohop.Breaker{Mode: zerohop.On}, AttemptTimeout: 300 * time.Millisecond})
	case 2:
		s.Clients[0].Mesh = policy(zerohop.Policy{Balance: "least-request", Backup: zerohop.Backup{Quantile: 0.9, Factor: 1}, Timeout: 800 * time.Millisecond})
	case 3:
		s.Clients[0].Mesh = policy(zerohop.Policy{Balance: "ring-hash", Retry: zerohop.Retry{Attempts: 5}})
	}
	s.Faults = RandomFaults(seed, s, 5)
	return s
}

// Five seconds after the last fault nobody sees anything of it any more.
func TestDefaultsSurviveRandomFaults(t *testing.T) {
	Seeds(t, *seeds, func(t *testing.T, seed uint64) {
		s := random(seed)
		r := Run(t, s)
		r.Check(t, Bounds{From: 15 * time.Second, Success: 0.999})
		if seed%200 == 0 { // one seed, one run
			if again := Run(t, random(seed)); again.Hash != r.Hash {
				t.Errorf("hash of a second run = %x, want %x", again.Hash, r.Hash)
			}
		}
	})
}

func TestRandomFaultsAreThoseOfTheSeed(t *testing.T) {
	kinds := map[string]bool{}
	for seed := range uint64(100) {
		s := random(seed)
		if again := RandomFaults(seed, s, 5); !reflect.DeepEqual(s.Faults, again) {
			t.Fatalf("seed %d: faults %v, then %v", seed, s.Faults, again)
		}
		for _, f := range s.Faults {
			v := reflect.ValueOf(f)
			for i := range v.NumField() {
				if !v.Field(i).IsZero() {
					kinds[v.Type().Field(i).Name] = true
				}
			}
			if f.At+f.For > s.For/2 {
				t.Errorf("seed %d: a fault ends after half of the time: %v", seed, f)
			}
		}
	}
	if want := reflect.TypeFor[Fault]().NumField(); len(kinds) != want {
		t.Errorf("100 seeds have %d kinds of fields set, want %d: %v", len(kinds), want, kinds)
	}
}

func TestShrinkLeavesTheFaultThatMatters(t *testing.T) {
	s := random(1)
	s.Faults = append(s.Faults, Fault{Service: "front", At: 16 * time.Second, Fail: 1})
	fails := func(r *Result, _ error) bool { return r.Success(17*time.Second, 0) < 0.5 }
	if got := Shrink(t, s, fails).Faults; len(got) != 1 || got[0].Fail != 1 || got[0].At != 16*time.Second {
		t.Errorf("faults that are left: %v, want the last one", got)
	}
}

package simulate

import (
	"flag"
	"os"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/sim"
)

var svg = flag.String("svg", "", "file that a picture of the brown-out is written to")

// The brown-out: from the 20th second to the 30th the service can do half of what it usually does.
const (
	begins = 20 * time.Second
	ends   = 30 * time.Second
)

// brownOut is orders at four fifths of what it can do: 4 endpoints of 10 workers, each of which takes 20 ms, are good for
// 2,000 calls per second.
func brownOut(spec zerohop.Spec) sim.Scenario {
	return sim.Scenario{
		Services: map[string]sim.Service{
			"orders": {Endpoints: 4, Workers: 10, Queue: 200, Time: sim.Exponential(20 * time.Millisecond)},
		},
		Clients: []sim.Client{
			{Service: "orders", Rate: 1600, Count: 5, Timeout: 2 * time.Second, Mesh: zerohop.Config{Spec: spec}},
		},
		Faults: []sim.Fault{{Service: "orders", At: begins, For: ends - begins, Capacity: 0.5}},
		For:    time.Minute,
	}
}

func TestPolicySurvivesBrownOut(t *testing.T) {
	result := sim.Run(t, brownOut(policy))
	result.Check(t, sim.Bounds{To: begins, Success: 0.9999, P99: 150 * time.Millisecond})
	result.Check(t, sim.Bounds{From: begins + time.Second, To: ends, Goodput: 900}) // of the 1,000 that are left
	result.Check(t, sim.Bounds{From: ends, Recovery: 2 * time.Second})
	result.Check(t, sim.Bounds{Amplification: 1.05})
	t.Log(result)
	if *svg != "" {
		f, err := os.Create(*svg)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := result.WriteSVG(f); err != nil {
			t.Fatal(err)
		}
	}
}

// Plain retries make ten bad seconds an outage that does not end. A simulation that could not show that would prove nothing.
func TestPlainRetriesDoNotSurviveIt(t *testing.T) {
	result := sim.Run(t, brownOut(plain))
	if d, ok := result.Recovery(ends, 0.9); ok {
		t.Errorf("recovers after %v, want never", d)
	}
	t.Log(result)
}

// Whatever else happens for a while to half of the endpoints, the policy is over it a few seconds later.
func TestPolicySurvivesRandomFaults(t *testing.T) {
	sim.Seeds(t, 20, func(t *testing.T, seed uint64) {
		s := brownOut(policy)
		s.Seed, s.For = seed, 20*time.Second
		s.Clients[0].Rate = 600
		s.Faults = sim.RandomFaults(seed, s, 3)
		sim.Run(t, s).Check(t, sim.Bounds{From: 15 * time.Second, Success: 0.999})
	})
}

package sim_test

import (
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/sim"
)

var spec zerohop.Spec

// The example of the package.
func TestOrdersSurviveBrownOut(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a second, and ten under the race detector")
	}
	result := sim.Run(t, sim.Scenario{
		Services: map[string]sim.Service{
			"orders": {Endpoints: 4, Workers: 20, Queue: 100, Time: sim.Exponential(20 * time.Millisecond)},
		},
		Clients: []sim.Client{{Service: "orders", Rate: 2800, Timeout: time.Second, Mesh: zerohop.Config{Spec: spec}}},
		Faults:  []sim.Fault{{Service: "orders", At: 20 * time.Second, For: 10 * time.Second, Capacity: 0.5}},
		For:     time.Minute,
	})
	result.Check(t, sim.Bounds{Amplification: 1.1})
	result.Check(t, sim.Bounds{From: 35 * time.Second, Success: 0.999, P99: 150 * time.Millisecond})
}

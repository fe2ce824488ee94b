package sim

import (
	"fmt"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
)

// One of three nodes hangs for good, with a third of what is under way. Nobody sets a limit to how long he waits.
func TestOneHungNodeHangsNoCall(t *testing.T) {
	const hangs, last = 5 * time.Second, 6 * time.Second
	for _, inFlight := range []float64{10, 60, 300, 2000} {
		t.Run(fmt.Sprint(inFlight, " in flight"), func(t *testing.T) {
			t.Parallel()
			r := Run(t, Scenario{
				Services: map[string]Service{"s": {Endpoints: 3, Workers: 10_000, Time: Lognormal(500*time.Millisecond, 0.3)}},
				Clients:  []Client{{Service: "s", Rate: 2 * inFlight}},
				Faults:   []Fault{{Service: "s", Endpoints: []int{1}, At: hangs, Hang: true}},
				For:      hangs + last,
			})
			sum, _ := r.Series.total(0, 0)
			t.Logf("%d started, %d ok, %d failed, worst %v; %.3f attempts per call", sum.started, sum.good, sum.failed, r.Quantile(1, 0, 0), r.Amplification(0, 0))
		})
	}
}

var _ zerohop.Config

package sim

import (
	"testing"
	"time"

	"github.com/zerohop/zerohop"
)

// serverHalf is what servers refuse with the defaults of zerohop.
var serverHalf = zerohop.AdmissionPolicy{Mode: zerohop.On}

// A server that does not begin what it cannot finish in time loses no work to callers who leave: half of its capacity is
// half of its goodput, and nothing is left to recover from.
func TestServerHalfKeepsBrownOutsShort(t *testing.T) {
	heavy(t)
	for _, tt := range []struct {
		name string
		rate float64
		mesh func() zerohop.Config
	}{
		{"defaults", 700, defaults}, {"defaults", 900, defaults}, {"no retry", 900, noRetry},
		{"storm", 700, storm}, {"storm", 900, storm},
	} {
		s := brownOut(tt.rate, *seed, tt.mesh())
		v := s.Services["s"]
		v.Admission = serverHalf
		s.Services["s"] = v
		s.For = 45 * time.Second
		r := Run(t, s)
		d, ok := r.Recovery(afterFault, 0.9)
		t.Logf("%s at %v: %.4f good before, %.0f good per second during the fault, recovery after %v %v; %.3f attempts per call", tt.name, tt.rate,
			r.Success(2*time.Second, 20*time.Second), r.Goodput(21*time.Second, afterFault), d, ok, r.Amplification(0, 0))
		r.Check(t, Bounds{From: 2 * time.Second, To: 20 * time.Second, Success: 0.999})
		r.Check(t, Bounds{From: 21 * time.Second, To: afterFault, Goodput: 430})
		r.Check(t, Bounds{From: afterFault, Recovery: time.Second})
	}
}

// So does a client that sends an endpoint no more than it answers in time, and no server has to help it: the limits of
// many clients add up to what the service can do.
func TestEndpointLimitsKeepBrownOutsShort(t *testing.T) {
	heavy(t)
	for _, tt := range []struct {
		rate    float64
		clients int
		mesh    func() zerohop.Config
	}{{700, 1, storm}, {900, 1, defaults}, {900, 10, storm}} {
		cfg := tt.mesh()
		cfg.Spec.Defaults.EndpointLimit.Mode = zerohop.On
		s := brownOut(tt.rate, *seed, cfg)
		s.Clients[0].Count = tt.clients
		s.For = 45 * time.Second
		r := Run(t, s)
		d, ok := r.Recovery(afterFault, 0.9)
		t.Logf("%d clients at %v: %.4f good before, %.0f good per second during the fault, recovery after %v %v; %.3f attempts per call", tt.clients, tt.rate,
			r.Success(2*time.Second, 20*time.Second), r.Goodput(21*time.Second, afterFault), d, ok, r.Amplification(0, 0))
		r.Check(t, Bounds{From: 2 * time.Second, To: 20 * time.Second, Success: 0.999})
		r.Check(t, Bounds{From: 21 * time.Second, To: afterFault, Goodput: 380})
		r.Check(t, Bounds{From: afterFault, Recovery: time.Second})
	}
}

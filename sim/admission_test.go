package sim

import (
	"strings"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// A request that waits for a place while its caller leaves, or while its endpoint dies, hangs or is cut off, leaves nothing behind.
func TestAdmissionSurvivesWhatHappensToItsEndpoint(t *testing.T) {
	s := eventful(3)
	for name, v := range s.Services {
		v.Admission = zerohop.AdmissionPolicy{Mode: zerohop.On, Initial: 3, Max: 10, Queue: 5, MaxWait: 50 * time.Millisecond}
		s.Services[name] = v
	}
	for i := range s.Clients {
		p := &s.Clients[i].Mesh.Spec.Defaults
		p.AttemptTimeout, p.Criticality = 40*time.Millisecond, resilience.Criticality(1+i)
	}
	s.Clients[0].Patience = Exponential(20 * time.Millisecond)
	r := Run(t, s)
	if again := Run(t, s); again.Hash != r.Hash {
		t.Errorf("hash of a second run = %x, want %x", again.Hash, r.Hash)
	}
	s.Clients[0].Patience = nil
	Run(t, s).Check(t, Bounds{From: 7 * time.Second, Success: 0.9})
}

// Whoever waits is told so in time that he is not let in, though nothing else happens.
func TestAdmissionRefusesWhoWaitsForTooLong(t *testing.T) {
	r := Run(t, Scenario{
		Services: map[string]Service{"s": {
			Workers: 100, Time: Constant(10 * time.Second), Latency: Constant(0),
			Admission: zerohop.AdmissionPolicy{Mode: zerohop.On, Algorithm: "fixed", Max: 1, Queue: 10, MaxWait: 300 * time.Millisecond},
		}},
		Clients: []Client{{Service: "s", Rate: 20, Mesh: noRetry()}},
		For:     5 * time.Second,
		Seed:    4,
	})
	all, _ := r.total(0, 0)
	if all.good != 0 || all.failed < 50 {
		t.Errorf("%d good and %d failed of %d, want none good, and most failed", all.good, all.failed, all.started)
	}
	if left := all.started - all.failed; left > 1+10 {
		t.Errorf("%d calls wait at the end, want one that is worked on and those in the queue", left)
	}
}

func TestAdmissionIsValidated(t *testing.T) {
	s := eventful(1)
	s.Services["leaf"] = Service{Endpoints: 4, Admission: zerohop.AdmissionPolicy{Mode: zerohop.On, Algorithm: "none"}}
	if _, err := simulate(t, s); err == nil || !strings.Contains(err.Error(), "services.leaf.admission") {
		t.Errorf("error of an admission that is wrong = %v", err)
	}
}

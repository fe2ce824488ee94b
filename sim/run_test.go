package sim

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
)

// Everything that can happen, in a chain of three services.
func eventful(seed uint64) Scenario {
	return Scenario{
		Services: map[string]Service{
			"front": {Endpoints: 3, Workers: 8, Time: Exponential(2 * time.Millisecond), Calls: []Call{{Service: "middle"}}},
			"middle": {
				Endpoints: 3, Workers: 8, Time: Lognormal(3*time.Millisecond, 0.5), Queue: 20,
				Calls: []Call{{Service: "leaf", Times: 2, Timeout: 200 * time.Millisecond}},
			},
			"leaf": {Endpoints: 4, Workers: 8, Time: Mix(Exponential(2*time.Millisecond), 0.01, Pareto(20*time.Millisecond, 1.5)), LIFO: true},
		},
		Clients: []Client{{Service: "front", Rate: 300, Count: 3, Timeout: 500 * time.Millisecond}, {Service: "leaf", Rate: 50, Unsafe: true}},
		Faults: []Fault{
			{Service: "leaf", At: time.Second, For: time.Second, Endpoints: []int{0}, Kill: true},
			{Service: "leaf", At: 1500 * time.Millisecond, For: time.Second, Endpoints: []int{1}, Hang: true},
			{Service: "middle", At: 2 * time.Second, For: time.Second, Endpoints: []int{2}, Fail: 0.5},
			{Service: "middle", At: 3 * time.Second, For: time.Second, Endpoints: []int{0}, Partition: true},
			{Service: "front", At: 4 * time.Second, For: time.Second, Slow: 5, Latency: time.Millisecond},
			{Service: "front", At: 4 * time.Second, For: 2 * time.Second, Endpoints: []int{1}, Leave: true},
			{Service: "front", At: 5 * time.Second, For: time.Second, Load: 3, Capacity: 0.5},
			{Service: "front", At: 2500 * time.Millisecond, For: 200 * time.Millisecond, Pause: true},
			{Service: "front", At: 3 * time.Second, For: time.Second, Late: 300 * time.Millisecond, Shed: 0.1, After: time.Second},
			{Service: "front", At: 4 * time.Second, For: time.Second, Registry: RegistryBroken},
			{Service: "leaf", At: 4 * time.Second, For: time.Second, Registry: RegistryGarbage},
		},
		For:  8 * time.Second,
		Seed: seed,
	}
}

func TestSeedDecidesEverything(t *testing.T) {
	first := Run(t, eventful(7))
	for range 3 {
		again := Run(t, eventful(7))
		if again.Hash != first.Hash || again.String() != first.String() {
			t.Fatalf("two runs with one seed differ:\n%s\n%s", first, again)
		}
	}
	if other := Run(t, eventful(8)); other.Hash == first.Hash {
		t.Errorf("seeds 7 and 8 have the same hash %x", other.Hash)
	}
	if n := first.Started(0, 0); n < 2000 {
		t.Errorf("only %d calls were made", n)
	}
	first.Check(t, Bounds{From: 6 * time.Second, Success: 0.999})
	t.Logf("\n%s", first)
}

func TestLawsHaveTheirMeans(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, tt := range []struct {
		name string
		law  Law
		want time.Duration
	}{
		{"constant", Constant(time.Second), time.Second},
		{"exponential", Exponential(time.Second), time.Second},
		{"lognormal", Lognormal(time.Second, 0.5), time.Duration(math.Exp(0.125) * float64(time.Second))},
		{"pareto", Pareto(time.Second, 3), 1500 * time.Millisecond},
		{"mix", Mix(Constant(time.Second), 0.1, Constant(11*time.Second)), 2 * time.Second},
		{"none", nil, 0},
	} {
		const draws = 200_000
		var sum float64
		for range draws {
			sum += tt.law.draw(rnd, 0).Seconds()
		}
		if got, want := sum/draws, tt.want.Seconds(); math.Abs(got-want) > 0.02*want {
			t.Errorf("mean of %s = %v, want %v", tt.name, got, want)
		}
	}
}

func TestScenarioIsValidated(t *testing.T) {
	good := eventful(1)
	if err := good.validate(); err != nil {
		t.Fatal(err)
	}
	bad := Scenario{
		Services: map[string]Service{"a": {Endpoints: -1, Workers: -1, Queue: -1, MinTime: -1, Calls: []Call{{Service: "b", Times: -1, Timeout: -1}}}},
		Clients:  []Client{{Service: "c", Count: -1, Timeout: -1}},
		Faults: []Fault{
			{Service: "a", At: -1, Capacity: 2, Slow: -1, Fail: 2, Load: -1, Latency: -1, Endpoints: []int{1}, Shed: 2, After: -1, Late: -1, Registry: "x"},
			{Service: "a", Load: 1, After: 1},
			{Service: "d"},
		},
		For: -1,
	}
	err := bad.validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, path := range []string{
		"for: ", "services.a.endpoints", "services.a.workers", "services.a.queue", "services.a.minTime", "services.a.calls[0].service",
		"services.a.calls[0].times", "services.a.calls[0].timeout", "clients[0].service", "clients[0].rate", "clients[0].count",
		"clients[0].timeout", "faults[0]: at", "faults[0].capacity", "faults[0].slow", "faults[0].fail", "faults[0].load",
		"faults[0].latency", "faults[0].endpoints", "faults[0].shed", "faults[0].after", "faults[0].late", "faults[0].registry",
		"faults[1].after", "faults[2].service", "faults[2]: does nothing",
	} {
		if !strings.Contains(err.Error(), path) {
			t.Errorf("no mistake in %s is reported:\n%v", path, err)
		}
	}
	s := eventful(1)
	s.Clients[0].Mesh.Spec.Defaults.Balance = "none"
	if _, err := simulate(t, s); err == nil || !strings.Contains(err.Error(), "clients[0].mesh") {
		t.Errorf("error of a policy that is wrong = %v", err)
	}
	s = eventful(1)
	s.Faults = nil
	s.Services["front"] = Service{Calls: []Call{{Service: "leaf"}}, Mesh: zerohop.Config{StartTimeout: -1}}
	if _, err := simulate(t, s); err == nil || !strings.Contains(err.Error(), "services.front.mesh") {
		t.Errorf("error of a policy that is wrong = %v", err)
	}
}

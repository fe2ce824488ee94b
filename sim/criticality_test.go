package sim

import (
	"math"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// levels are all of them, from the most critical on.
var levels = []resilience.Criticality{resilience.CriticalPlus, resilience.Critical, resilience.SheddablePlus, resilience.Sheddable}

// level is a policy for calls of a level that are not repeated.
func level(c resilience.Criticality) zerohop.Config {
	cfg := noRetry()
	cfg.Spec.Defaults.Criticality = c
	return cfg
}

// Prefetching that goes wild must not hurt users: for five minutes there is twelve times as much of it, and then as much in all
// as can be done, and a half. The idea is that of Netflix's "Keeping Netflix Reliable Using Prioritized Load Shedding", 2020.
func TestSpikeOfLittleImportanceHurtsNobodyElse(t *testing.T) {
	heavy(t)
	const begin = 20 * time.Second
	run := func(low resilience.Criticality, admission zerohop.AdmissionPolicy, front *zerohop.Policy, length time.Duration) *Result {
		s := Scenario{
			Services: map[string]Service{
				"s":        {Endpoints: 2, Workers: 4, Time: Exponential(20 * time.Millisecond), Admission: admission},
				"prefetch": {Endpoints: 2, Workers: 10_000, Calls: []Call{{Service: "s"}}},
			},
			Clients: []Client{
				{Service: "s", Rate: 160, Count: 4, Timeout: time.Second},
				{Service: "prefetch", Rate: 40, Timeout: time.Second, Mesh: level(low)},
			},
			Faults: []Fault{{Service: "prefetch", At: begin, For: length, Load: 12}},
			For:    begin + length + 10*time.Second,
			Seed:   *seed,
		}
		if front != nil { // all comes through there
			s.Services["front"] = Service{Endpoints: 2, Workers: 10_000, Calls: []Call{{Service: "s"}}, Mesh: policy(*front)}
			s.Services["prefetch"].Calls[0].Service = "front"
			s.Clients[0].Service = "front"
		}
		return Run(t, s)
	}
	none := zerohop.AdmissionPolicy{}
	const short = 20 * time.Second
	for _, tt := range []struct {
		name      string
		low       resilience.Criticality
		admission zerohop.AdmissionPolicy
		front     *zerohop.Policy // of the two callers of a service that refuses nothing
		length    time.Duration
		holds     bool
	}{
		{"server half", resilience.Sheddable, serverHalf, nil, 5 * time.Minute, true},
		{"server half, plus", resilience.SheddablePlus, serverHalf, nil, short, true},
		{"server half without levels", resilience.Critical, serverHalf, nil, short, false},
		{"neither half", resilience.Sheddable, none, nil, short, false},
		{"client half", resilience.Sheddable, none, &zerohop.Policy{Limit: zerohop.Limit{Mode: zerohop.On, Algorithm: "gradient"}}, short, true},
		{"client half without levels", resilience.Critical, none, &zerohop.Policy{Limit: zerohop.Limit{Mode: zerohop.On, Algorithm: "gradient"}}, short, false},
	} {
		r := run(tt.low, tt.admission, tt.front, tt.length)
		end := begin + tt.length
		users, rest := r.Clients[0], r.Clients[1]
		t.Logf("%s: users %.3f %% ok, p99 %v; the rest %.1f %% ok; %.0f good per second of 400; after it %.2f and %.2f %%", tt.name,
			100*users.Success(begin, end), users.Quantile(0.99, begin, end), 100*rest.Success(begin, end), r.Goodput(begin, end),
			100*users.Success(end, 0), 100*rest.Success(end, 0))
		if ok := users.Success(begin, end); tt.holds != (ok > 0.994) {
			t.Errorf("%s: %.3f %% of the calls of users are well, want more than 99.4 %%: %v", tt.name, 100*ok, tt.holds)
		}
		if !tt.holds {
			continue
		}
		if got := r.Goodput(begin+time.Second, end); got < 0.8*400 {
			t.Errorf("%s: %.0f good per second, want at least 320 of 400", tt.name, got)
		}
		for i, s := range r.Clients {
			if d, ok := s.Recovery(end, 0.9); !ok || d > time.Second {
				t.Errorf("%s: client %d recovers after %v (%v), want within a second", tt.name, i, d, ok)
			}
		}
	}
}

// A service of 800 requests per second gets 700 and then 4,000, of four levels. U. Pavlov et al. (Uber), "Cinnamon: Using Century
// Old Tech to Build a Mean Load Shedder", 2023.
func TestTopLevelNoticesNoOverload(t *testing.T) {
	heavy(t)
	const begin, end, capacity = 10 * time.Second, 25 * time.Second, 800
	s := Scenario{
		Services: map[string]Service{"s": {Workers: 16, Time: Exponential(20 * time.Millisecond), Admission: serverHalf}},
		Faults:   []Fault{{Service: "s", At: begin, For: end - begin, Load: 4000.0 / 700}},
		For:      end + 5*time.Second,
		Seed:     *seed,
	}
	for i, c := range levels { // 400, 800, 1200 and 1600 in the end
		s.Clients = append(s.Clients, Client{Service: "s", Rate: float64(70 * (i + 1)), Timeout: time.Second, Mesh: level(c)})
	}
	r := Run(t, s)
	for i, c := range r.Clients {
		t.Logf("%v: %.2f %% ok, p50 %v, p99 %v; before %v", levels[i], 100*c.Success(begin, end), c.Quantile(0.5, begin, end), c.Quantile(0.99, begin, end), c.Quantile(0.99, 2*time.Second, begin))
	}
	t.Logf("%.0f good per second", r.Goodput(begin+time.Second, end))
	if got := r.Goodput(begin+time.Second, end); got < 0.9*capacity {
		t.Errorf("%.0f good per second, want nine tenths of %d", got, capacity)
	}
	top := r.Clients[0]
	if ok, p99 := top.Success(begin, end), top.Quantile(0.99, begin, end); ok < 0.994 || p99 > 250*time.Millisecond {
		t.Errorf("%.2f %% of the top level are well, p99 %v, want more than 99.4 %%, and at most 250ms", 100*ok, p99)
	}
	r.Check(t, Bounds{From: end, Recovery: time.Second})
}

// A task that needs several calls of an overloaded service is lost if one of them is refused. At random few are not, but if the
// same levels are refused each time, as many tasks succeed as there is capacity for. H. Zhou et al. (WeChat), "Overload
// Control for Scaling WeChat Microservices", 2018.
func TestTasksOfManyCallsSucceedByLevel(t *testing.T) {
	heavy(t)
	const capacity, warm = 750.0, 3 * time.Second
	run := func(calls int, levels []resilience.Criticality) *Result {
		s := Scenario{
			Services: map[string]Service{
				"m": {Endpoints: 3, Workers: 5, Time: Exponential(20 * time.Millisecond), Admission: serverHalf},
				"a": {Endpoints: 3, Workers: 10_000},
			},
			For:  15 * time.Second,
			Seed: *seed,
		}
		a := s.Services["a"]
		for range calls {
			a.Calls = append(a.Calls, Call{Service: "m"})
		}
		s.Services["a"] = a
		for _, c := range levels {
			s.Clients = append(s.Clients, Client{
				Service: "a", Rate: 2 * capacity / float64(calls) / float64(len(levels)), Timeout: time.Second, Mesh: level(c),
			})
		}
		return Run(t, s)
	}
	for calls := 1; calls <= 4; calls++ {
		byLevel, alike := run(calls, levels), run(calls, []resilience.Criticality{resilience.Critical})
		got, flat := byLevel.Success(warm, 0), alike.Success(warm, 0)
		random := math.Pow(0.5, float64(calls))
		t.Logf("%d calls: %.1f %% of the tasks succeed by level, %.1f %% without; %.1f %% would at random", calls, 100*got, 100*flat, 100*random)
		if calls > 1 && got < 1.5*random {
			t.Errorf("%d calls: %.1f %% of the tasks succeed, want at least 1.5 times %.1f %%", calls, 100*got, 100*random)
		}
		if least := 0.4; got < least {
			t.Errorf("%d calls: %.1f %% of the tasks succeed, want %.0f %% of the 50 there is capacity for", calls, 100*got, 100*least)
		}
	}
}

package sim

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// Seeds calls f for the seeds from 1 to n, each in a subtest of its own, as many at the same time as tests may run in
// parallel. One that fails is run again by its name:
//
//	go test -run 'TestPolicy/seed=137$'
func Seeds(t *testing.T, n int, f func(t *testing.T, seed uint64)) {
	for seed := range uint64(n) {
		t.Run(fmt.Sprint("seed=", seed+1), func(t *testing.T) {
			t.Parallel()
			f(t, seed+1)
		})
	}
}

// RandomFaults returns n faults of any kind for a scenario, decided by the seed. They begin after a tenth of the time and
// are over after half of it, and leave at least half of the endpoints of every service alone that has more than one.
func RandomFaults(seed uint64, s Scenario, n int) []Fault {
	rnd := rand.New(rand.NewPCG(seed, 1))
	names := slices.Sorted(maps.Keys(s.Services))
	// Of the few endpoints that services of such scenarios have, a fourth is too little to be told from those that leave.
	common := slices.DeleteFunc(slices.Clone(registries), func(k Registry) bool { return k == RegistryPartial })
	victims := map[string][]int{}
	for _, name := range names {
		count := max(s.Services[name].Endpoints, 1)
		victims[name] = rnd.Perm(count)[:max(count/2, 1)]
	}
	between := func(low, high float64) float64 { return low + (high-low)*rnd.Float64() }
	share := func(low, high float64) time.Duration { return time.Duration(between(low, high) * float64(s.For)) }
	list := make([]Fault, 0, n)
	for range n {
		name := names[rnd.IntN(len(names))]
		f := Fault{Service: name, At: share(0.1, 0.4), For: share(0.01, 0.1)}
		all := victims[name]
		f.Endpoints = slices.Sorted(slices.Values(all[:1+rnd.IntN(len(all))]))
		switch rnd.IntN(14) {
		case 0:
			f.Capacity = between(0.1, 0.9)
		case 1:
			f.Slow = between(2, 20)
		case 2:
			f.Fail = between(0.1, 1)
		case 3:
			f.Latency = time.Duration(between(1, 50) * float64(time.Millisecond))
		case 4:
			f.Hang = true
		case 5:
			f.Kill = true
		case 6:
			f.Partition = true
		case 7:
			f.Leave = true
		case 8:
			f.Load = between(0.5, 3)
		case 9:
			f.Shed = between(0.1, 1)
			f.After = time.Duration(rnd.IntN(3)) * time.Second
		case 10:
			f.Pause = true
		case 11:
			f.Late = time.Duration(between(1, 300) * float64(time.Millisecond))
		default:
			f.Registry = common[rnd.IntN(len(common))]
			if rnd.IntN(2) == 0 { // the source matters most when there is news
				list = append(list, Fault{
					Service: name, At: f.At + f.For/4, For: f.For / 2, Endpoints: f.Endpoints, Leave: true,
				})
			}
		}
		list = append(list, f)
	}
	return list
}

// Shrink returns the scenario with as few of its faults as it takes for fails to hold. A result goes with an error if
// something did not hold that always must. fails must hold for the scenario itself.
func Shrink(t *testing.T, s Scenario, fails func(*Result, error) bool) Scenario {
	for i := 0; i < len(s.Faults); {
		less := s
		less.Faults = slices.Delete(slices.Clone(s.Faults), i, i+1)
		if fails(simulate(t, less)) {
			s, i = less, 0
		} else {
			i++
		}
	}
	return s
}

package xds

import (
	"math"

	"github.com/zerohop/zerohop/discovery"
)

const (
	// maxWeight is the largest weight that discovery.Run takes.
	maxWeight = 1_000_000
	// fineness is how many steps the smallest weight gets where shares are no whole numbers: rounding then shifts
	// shares by a thousandth at most.
	fineness = 1000
)

// group is one locality of an assignment: the endpoints from..to of its set.
type group struct {
	level    uint8
	weight   uint32
	weighted bool
	from, to int
}

// weigh turns the two levels of weights, of localities and of the endpoints in each, into one, and returns the set without
// those that get no traffic.
//
// The share of a locality of the traffic of its failover level is that of its weight, however many endpoints it has. A level in
// which no locality has a weight has only those of the endpoints. In one where others have it, a locality without gets no
// traffic: that is how Envoy and gRPC read it.
func weigh(set []discovery.Endpoint, groups []group) []discovery.Endpoint {
	var weighted [maxPriority + 1]bool
	for _, g := range groups {
		weighted[g.level] = weighted[g.level] || g.weighted
	}
	// The factor of a locality is what its endpoints' weights are multiplied with.
	factors := make([]float64, len(groups))
	least, uniform := math.Inf(1), true
	for i, g := range groups {
		if factors[i] = 1; weighted[g.level] {
			factors[i] = 0
			if sum := capacity(set[g.from:g.to]); sum > 0 {
				factors[i] = float64(g.weight) / sum
			}
		}
		if f := factors[i]; f > 0 && g.from < g.to {
			uniform = uniform && (math.IsInf(least, 1) || f == least)
			least = min(least, f)
		}
	}
	largest := 0.0
	for i, g := range groups {
		for _, e := range set[g.from:g.to] {
			largest = max(largest, factors[i]*float64(e.Weight))
		}
	}
	scale := min(fineness/least, maxWeight/largest)
	if uniform {
		scale = min(1/least, maxWeight/largest)
	}
	kept := set[:0]
	for i, g := range groups {
		if factors[i] == 0 {
			continue
		}
		for _, e := range set[g.from:g.to] {
			e.Weight = uint32(max(math.Round(factors[i]*float64(e.Weight)*scale), 1))
			kept = append(kept, e)
		}
	}
	return kept
}

// capacity is the sum of the weights of the endpoints that take traffic: the healthy ones, or all if none is.
func capacity(set []discovery.Endpoint) float64 {
	healthy, all := 0.0, 0.0
	for _, e := range set {
		all += float64(e.Weight)
		if e.Health == discovery.Healthy {
			healthy += float64(e.Weight)
		}
	}
	if healthy > 0 {
		return healthy
	}
	return all
}

package loadbalance

import (
	"math"

	"github.com/zerohop/zerohop/discovery"
)

// level is the endpoints of one priority, or of one in the zone of the caller or out of it, that the source calls healthy.
type level struct {
	nodes  []*Node
	all    int // with those it calls unhealthy; draining ones are leaving and nobody waits for them
	picker Picker
	band   *band  // of those in the zone, if there are others out of it, else nil
	around *level // these others, the next level

	rank int   // see rank
	at   uint8 // the place among the levels, 255 for those from there on
	// Of nodes that are not among these because a transport cannot reach them: those that it may reach in a moment, and
	// those that it cannot. The first count as in service, lest calls go to another level for that moment.
	awaited, missing int
}

// rank numbers levels by preference: 2p is that of priority p in the zone, 2p+1 out of it.
func rank(ep *discovery.Endpoint, near *locality) int {
	if zone := near.zone(); zone != "" && ep.Zone == zone {
		return 2 * int(ep.Priority)
	}
	return 2*int(ep.Priority) + 1
}

const maxRanks = 512

// levels returns the levels that can take calls, the most preferred first. If the source calls no endpoint healthy there is
// one with all of them, because a call that may fail is better than one that must.
func levels(nodes []*Node, build Builder, near *locality) []level {
	if near.zone() == "" && uniform(nodes) {
		return []level{{nodes: nodes, all: len(nodes), rank: rank(nodes[0].ep.Load(), nil), picker: build(nodes)}}
	}
	ranks := make([]int16, len(nodes))
	healthy, all := count(nodes, near, ranks)
	var list []level
	for r, count := range healthy {
		if count == 0 {
			continue
		}
		l := level{nodes: make([]*Node, 0, count), all: all[r], rank: r}
		for i, n := range nodes {
			if int(ranks[i]) == r {
				l.nodes = append(l.nodes, n)
			}
		}
		l.picker = build(l.nodes)
		if r%2 == 0 && healthy[r+1] > 0 {
			l.band = near.band(uint8(r / 2))
		}
		list = append(list, l)
	}
	for i := range list {
		list[i].at = uint8(min(i, math.MaxUint8))
		if list[i].band != nil {
			list[i].around = &list[i+1]
		}
	}
	if list == nil {
		return []level{{nodes: nodes, all: len(nodes), rank: maxRanks - 1, picker: build(nodes)}}
	}
	return list
}

// count returns how many nodes there are of each rank that the source calls healthy, and with those it calls unhealthy. If
// ranks is not nil it is set to the ranks of the healthy ones, and -1 for others. An update may change what is said of a
// node at any time, so that to look twice could give a level without nodes.
func count(nodes []*Node, near *locality, ranks []int16) (healthy, all [maxRanks]int) {
	for i, n := range nodes {
		ep := n.ep.Load()
		r := rank(ep, near)
		if ranks != nil {
			ranks[i] = -1
		}
		switch ep.Health {
		case discovery.Healthy:
			healthy[r]++
			all[r]++
			if ranks != nil {
				ranks[i] = int16(r)
			}
		case discovery.Draining, discovery.Terminating:
		default:
			all[r]++
		}
	}
	return healthy, all
}

// uniform reports whether the source calls all nodes healthy and of one priority, as most do.
func uniform(nodes []*Node) bool {
	priority := nodes[0].ep.Load().Priority
	for _, n := range nodes {
		if ep := n.ep.Load(); ep.Health != discovery.Healthy || ep.Priority != priority {
			return false
		}
	}
	return true
}

// levelHealth returns what part of all calls a level can take of whose endpoints so many are in service; see
// Config.OverProvisioning.
func levelHealth(serving, all int, overProvisioning float64) float64 {
	if all == 0 {
		return 0
	}
	return min(1, overProvisioning*float64(serving)/float64(all))
}

// levelLoads turns the health of the levels, the most preferred first, into their parts of the calls, in place: each takes what
// it can of what those before it have left. If all together cannot take everything, they share it in proportion to their
// health. It reports whether they can. See "Priority levels" in Envoy's documentation.
func levelLoads(health []float64) (enough bool) {
	var sum float64
	for _, h := range health {
		sum += h
	}
	if sum == 0 {
		return false
	}
	whole := min(1, sum)
	left := 1.0
	for i, h := range health {
		health[i] = min(left, h/whole)
		left -= health[i]
	}
	return sum > 1-1e-9
}

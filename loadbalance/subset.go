package loadbalance

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/zerohop/zerohop/discovery"
)

// Subset is the part of a large service that a client keeps to, where each client is to be connected to a few endpoints
// only. The endpoints of each priority, and those in the zone of the client and out of it, are chosen from separately,
// and only where there are more than 32. Those that the source does not call healthy do not count, and remain known if
// their turn is before that of the last one that does: an endpoint that fails is replaced by one other.
//
// Unless Clients is set the subset is random: the endpoints with the highest hash of their address and the client (gRFC A68).
// An endpoint that comes or goes changes one endpoint of the subset at most. Of N clients with k endpoints of S each, an
// endpoint has as many as N*k/S on average, with a coefficient of variation of sqrt((1-k/S)/(N*k/S)), so that small
// subsets make for uneven load.
//
// With Clients the subset is an aperture: the endpoints from the client's own place on, of all on a circle in the order of
// the hash of their address. Every endpoint has the same number of clients, or one more. The price is that the number
// of clients matters: when it changes, most of them change some endpoints. An endpoint that comes or goes changes at
// most two. After the deterministic aperture of Finagle
// (https://twitter.github.io/finagle/guide/ApertureLoadBalancers.html), whose least aperture is 12.
type Subset struct {
	// Size is how many healthy endpoints the client keeps to. 0 or less means all.
	Size int
	// Client differs between clients, such as the name of the pod does, and should outlive restarts.
	Client string
	// Clients is how many there are, 0 or less if that is not known, and Index which of them this one is, from 0 on. An
	// Index outside counts modulo Clients.
	Clients, Index int
	// Lane is the key of the metadata that tells lanes apart, as for Set.Lane, and Stable what it has for those in none: endpoints
	// of each lane are chosen from separately, too, as a lane has a few of a large service. Empty means that there are none.
	Lane, Stable string
}

// lane returns the lane of an endpoint.
func (s *Subset) lane(ep *discovery.Endpoint) string {
	if s.Lane == "" {
		return ""
	}
	if lane := ep.Meta[s.Lane]; lane != s.Stable {
		return lane
	}
	return ""
}

// fewEndpoints are so few that every client may know them all.
const fewEndpoints = 32

// of returns the endpoints of the subset in the order of the list, which is not changed.
func (s *Subset) of(eps []discovery.Endpoint, zone string) []discovery.Endpoint {
	if s.Size <= 0 || len(eps) <= max(s.Size, fewEndpoints) {
		return eps
	}
	type group struct {
		priority uint8
		near     bool
		lane     string
	}
	groups := map[group][]int{}
	for i := range eps {
		g := group{eps[i].Priority, zone != "" && eps[i].Zone == zone, s.lane(&eps[i])}
		groups[g] = append(groups[g], i)
	}
	own := make([]int, 0, len(eps))
	for _, list := range groups {
		if len(list) > max(s.Size, fewEndpoints) {
			list = s.choose(eps, list)
		}
		own = append(own, list...)
	}
	slices.Sort(own)
	subset := make([]discovery.Endpoint, len(own))
	for k, i := range own {
		subset[k] = eps[i]
	}
	return subset
}

// choose returns those of the list, which are places in eps, that the client keeps to. No more than half of them can be
// other than healthy.
func (s *Subset) choose(eps []discovery.Endpoint, list []int) []int {
	list = s.order(eps, list)
	healthy := 0
	for k, i := range list {
		if eps[i].Health == discovery.Healthy {
			healthy++
		}
		if healthy == s.Size || k+1 >= 2*s.Size {
			return list[:k+1]
		}
	}
	return list
}

// order returns the places in eps in the order in which the client would have them.
func (s *Subset) order(eps []discovery.Endpoint, list []int) []int {
	var seed uint64
	if s.Clients <= 0 {
		seed = xxh64(s.Client, 0)
	}
	type place struct {
		hash uint64
		at   int
	}
	circle := make([]place, len(list))
	for k, i := range list {
		circle[k] = place{xxh64(eps[i].Addr, seed), i}
	}
	slices.SortFunc(circle, func(a, b place) int {
		return cmp.Or(cmp.Compare(b.hash, a.hash), cmp.Compare(eps[a.at].Addr, eps[b.at].Addr))
	})
	first := uint64(0)
	if s.Clients > 0 && len(list) > 0 {
		client := s.Index % s.Clients
		if client < 0 {
			client += s.Clients
		}
		hi, lo := bits.Mul64(uint64(client), uint64(len(list)))
		first, _ = bits.Div64(hi, lo, uint64(s.Clients))
	}
	order := make([]int, len(circle))
	for k := range order {
		order[k] = circle[(int(first)+k)%len(circle)].at
	}
	return order
}

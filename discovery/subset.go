package discovery

import (
	"cmp"
	"context"
	"errors"
	"hash/fnv"
	"os"
	"slices"
	"strings"
)

// Subset is a Resolver that finds Size endpoints of each priority of another one, so that a process holds few connections to
// a large service. Every Instance has a subset of its own, which it keeps over restarts; when an endpoint comes or goes, at
// most one of a subset changes. Healthy endpoints are chosen first. It costs no goroutine.
//
// The subsets of many callers are random, so some endpoints have more callers than others; Policy.Subset of a mesh can
// do better, knows zones, and leaves the choice per service. They are chosen by rendezvous hashing (Thaler and
// Ravishankar, "A Name-Based Mapping Scheme for Rendezvous", 1996).
type Subset struct {
	// Resolver is the source. Required.
	Resolver Resolver
	// Size is how many endpoints to find, at least 1.
	Size int
	// Instance names the process among all that call the service. Empty means the name of the host.
	Instance string
}

var errNoSize = errors.New("discovery: Size of Subset must be at least 1")

// Watch implements Resolver.
func (s Subset) Watch(ctx context.Context, service string, update func([]Endpoint)) error {
	if s.Size < 1 {
		return errNoSize
	}
	if s.Instance == "" {
		s.Instance, _ = os.Hostname()
	}
	return watchPart(ctx, "Subset", s.Resolver, service, s.choose, update)
}

// Remote implements RemoteSource.
func (s Subset) Remote() bool { return IsRemote(s.Resolver) }

// Zone implements ZoneSource.
func (s Subset) Zone(ctx context.Context) (string, error) { return firstZone(ctx, s.Resolver) }

func (s *Subset) choose(all []Endpoint) []Endpoint {
	// The healthiest of those with the same address stands for it, as in Run.
	slices.SortStableFunc(all, func(a, b Endpoint) int {
		return cmp.Or(strings.Compare(a.Addr, b.Addr), cmp.Compare(a.Health, b.Health))
	})
	all = slices.CompactFunc(all, func(a, b Endpoint) bool { return a.Addr == b.Addr })
	type ranked struct {
		Endpoint
		score uint64
	}
	list := make([]ranked, len(all))
	for i, e := range all {
		list[i] = ranked{e, s.score(e.Addr)}
	}
	slices.SortFunc(list, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(min(a.Health, 1), min(b.Health, 1)), cmp.Compare(b.score, a.score),
			strings.Compare(a.Addr, b.Addr))
	})
	chosen := all[:0]
	n := 0 // of the present priority
	for i, r := range list {
		if i > 0 && r.Priority != list[i-1].Priority {
			n = 0
		}
		if n++; n <= s.Size {
			chosen = append(chosen, r.Endpoint)
		}
	}
	return chosen
}

// score ranks an endpoint for the instance. FNV alone differs too little for addresses that do.
func (s *Subset) score(addr string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s.Instance))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(addr))
	return mix(h.Sum64())
}

// mix is the finalizer of SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

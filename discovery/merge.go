package discovery

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"
)

// Merge is a Resolver that finds what any of its sources finds, such as two registries during a move from one to the other. Of
// endpoints with the same address the healthiest is taken, and among those the one of the first source.
//
// Each source is supervised by itself: while one fails, its last good endpoints stay. A service is unknown only if all say so.
// Merge is remote if one of its sources is, and an AddressPolicy then counts for all. The first set waits for slower sources
// for up to a second. The sources must not be changed once it is in use.
type Merge []Resolver

// Watch implements Resolver.
func (m Merge) Watch(ctx context.Context, service string, update func([]Endpoint)) error {
	return watchFamily(ctx, "Merge", m, service, func(_ time.Time, members []member) ([]Endpoint, time.Duration, bool) {
		set, ok := merged(members, func(int) uint8 { return 0 })
		return set, 0, ok
	}, update)
}

// Remote implements RemoteSource.
func (m Merge) Remote() bool { return anyRemote(m...) }

// Zone implements ZoneSource: the zone is that of the first source that knows one.
func (m Merge) Zone(ctx context.Context) (string, error) { return firstZone(ctx, m...) }

// merged returns the endpoints of all sources, with the priorities of each raised by lift. It returns false if no source has
// answered.
func merged(members []member, lift func(i int) uint8) (set []Endpoint, ok bool) {
	for i := range members {
		ok = ok || members[i].known
		n := lift(i)
		for _, e := range members[i].set {
			e.Priority = min(e.Priority, 255-n) + n
			set = append(set, e)
		}
	}
	slices.SortStableFunc(set, func(a, b Endpoint) int {
		return cmp.Or(strings.Compare(a.Addr, b.Addr), cmp.Compare(a.Health, b.Health))
	})
	return slices.CompactFunc(set, func(a, b Endpoint) bool { return a.Addr == b.Addr }), ok
}

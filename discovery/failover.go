package discovery

import (
	"context"
	"time"
)

// Failover is a Resolver that finds what its sources find, in order of preference: the local cluster or datacenter first, then
// those that are to help out. Endpoints of the second source have a Priority after all of the first, and so on, so calls go
// to them as far as those before them are not healthy enough to carry the load; see Endpoint.Priority. Of
// endpoints with the same address the healthiest is taken, and among those the one of the first source.
//
// Each source is supervised by itself: while one fails, its last good endpoints stay. Unlike Fallback it goes by the health of
// endpoints, not of sources. Failover is remote if one of its sources is, and an AddressPolicy then counts for all.
// The first set waits for slower sources for up to a second. The sources must not be changed once it is in use.
type Failover []Resolver

// Watch implements Resolver.
func (f Failover) Watch(ctx context.Context, service string, update func([]Endpoint)) error {
	return watchFamily(ctx, "Failover", f, service, func(_ time.Time, members []member) ([]Endpoint, time.Duration, bool) {
		next := 0
		set, ok := merged(members, func(i int) uint8 {
			first := min(next, 255)
			highest := 0 // a source without endpoints keeps its place, so that those after it stay where they are
			for _, e := range members[i].set {
				highest = max(highest, int(e.Priority))
			}
			next += highest + 1
			return uint8(first)
		})
		return set, 0, ok
	}, update)
}

// Remote implements RemoteSource.
func (f Failover) Remote() bool { return anyRemote(f...) }

// Zone implements ZoneSource: the zone is that of the first source that knows one.
func (f Failover) Zone(ctx context.Context) (string, error) { return firstZone(ctx, f...) }

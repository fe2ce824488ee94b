package discovery

import (
	"context"
	"time"
)

// defaultFallbackAfter lets pass what restarts and elections of a registry take: the last good set is right for that long
// nearly always, and another source may be further from the truth.
const defaultFallbackAfter = 30 * time.Second

// Fallback is a Resolver that finds what Primary finds, and what Secondary finds instead while Primary has never answered, has no
// endpoints for the service, or was not heard for After: a registry, and a file or DNS for when it is out. It is back when
// Primary is. If Secondary has no endpoints either, the last good ones of Primary stay.
//
// Both sources are watched all the time, each supervised by itself. Fallback is remote if one of them is, and an AddressPolicy
// then counts for both.
type Fallback struct {
	// Primary and Secondary are the sources. Required.
	Primary, Secondary Resolver
	// After is how long Primary may not be heard before Secondary takes its place. 0 means 30 s; negative means that it
	// does so only where Primary has no endpoints.
	After time.Duration
}

// Watch implements Resolver.
func (f Fallback) Watch(ctx context.Context, service string, update func([]Endpoint)) error {
	if f.After == 0 {
		f.After = defaultFallbackAfter
	}
	return watchFamily(ctx, "Fallback", f.sources(), service, f.choose, update)
}

// Remote implements RemoteSource.
func (f Fallback) Remote() bool { return anyRemote(f.sources()...) }

// Zone implements ZoneSource: the zone is that of the first source that knows one.
func (f Fallback) Zone(ctx context.Context) (string, error) { return firstZone(ctx, f.sources()...) }

func (f Fallback) sources() []Resolver { return []Resolver{f.Primary, f.Secondary} }

func (f Fallback) choose(now time.Time, members []member) (set []Endpoint, again time.Duration, ok bool) {
	first, second := &members[0], &members[1]
	if len(first.set) > 0 && !first.lost.IsZero() && f.After > 0 {
		again = max(first.lost.Add(f.After).Sub(now), 0)
		if again == 0 && len(second.set) > 0 {
			return second.set, 0, true
		}
	}
	if len(first.set) > 0 || len(second.set) == 0 {
		return first.set, again, first.known || second.known
	}
	return second.set, 0, true
}

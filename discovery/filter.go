package discovery

import "context"

// Filter is a Resolver that finds those endpoints of another one that have the attributes it asks for. Where none has, the
// service has no endpoints. It costs no goroutine.
type Filter struct {
	// Resolver is the source. Required.
	Resolver Resolver
	// Meta lists entries that Endpoint.Meta must have. It is read-only.
	Meta map[string]string
	// Keep, if not nil, reports whether to keep an endpoint. It must not change it, must always give the same answer for the
	// same endpoint, and be safe for concurrent use. Endpoints are as the source gives them; their address is good.
	Keep func(Endpoint) bool
}

// Watch implements Resolver.
func (f Filter) Watch(ctx context.Context, service string, update func([]Endpoint)) error {
	return watchPart(ctx, "Filter", f.Resolver, service, func(good []Endpoint) []Endpoint {
		kept := good[:0]
		for _, e := range good {
			if f.keeps(&e) {
				kept = append(kept, e)
			}
		}
		return kept
	}, update)
}

// Remote implements RemoteSource.
func (f Filter) Remote() bool { return IsRemote(f.Resolver) }

// Zone implements ZoneSource.
func (f Filter) Zone(ctx context.Context) (string, error) { return firstZone(ctx, f.Resolver) }

func (f *Filter) keeps(e *Endpoint) bool {
	for k, v := range f.Meta {
		if got, ok := e.Meta[k]; !ok || got != v {
			return false
		}
	}
	return f.Keep == nil || f.Keep(*e)
}

package sim

import (
	"context"
	"slices"

	"github.com/zerohop/zerohop/discovery"
)

// registry is the list of the endpoints of a service. Its watchers run while the simulation waits for them.
type registry struct {
	list    []discovery.Endpoint
	changed chan struct{} // closed at the next change
}

// publish lists the endpoints that have not left.
func (s *service) publish() {
	var list []discovery.Endpoint
	for _, e := range s.endpoints {
		if e.unlisted {
			continue
		}
		ep := discovery.Endpoint{Addr: e.addr}
		if len(s.Zones) > 0 {
			ep.Zone = s.Zones[e.number%len(s.Zones)]
		}
		list = append(list, ep)
	}
	old := s.registry.changed
	s.registry = registry{list, make(chan struct{})}
	if old != nil {
		close(old)
	}
}

// Watch makes the world a discovery.Resolver. It reads what only changes while no watcher runs.
func (w *world) Watch(ctx context.Context, name string, update func([]discovery.Endpoint)) error {
	s := w.services[name]
	if s == nil {
		return discovery.ErrUnknownService
	}
	for {
		changed := s.registry.changed
		update(slices.Clone(s.registry.list))
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

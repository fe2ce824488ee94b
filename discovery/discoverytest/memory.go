package discoverytest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/zerohop/zerohop/discovery"
)

// Memory is a discovery.Resolver whose services are set by the test. The zero value is ready to use and knows no
// service. It is safe for concurrent use.
type Memory struct {
	// mu guards the fields below. now and the maps that it was are never changed.
	mu      sync.Mutex
	now     discovery.Static
	down    error
	changed chan struct{} // closed at the next change; nil if nobody waits
}

// Set makes the source list exactly the endpoints for service; without any, the service is known and empty. It
// returns before the watches have seen the change.
func (m *Memory) Set(service string, endpoints ...discovery.Endpoint) {
	m.change(func() {
		next := discovery.Static{service: slices.Clone(endpoints)}
		for name, set := range m.now {
			if name != service {
				next[name] = set
			}
		}
		m.now = next
	})
}

// Remove makes service unknown.
func (m *Memory) Remove(service string) {
	m.change(func() {
		m.now = maps.Clone(m.now)
		delete(m.now, service)
	})
}

// Break makes all watches, present and future, end with err. A nil err heals the source.
func (m *Memory) Break(err error) {
	m.change(func() { m.down = err })
}

func (m *Memory) change(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}

func (m *Memory) state() (now discovery.Static, changed <-chan struct{}, down error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.changed == nil {
		m.changed = make(chan struct{})
	}
	return m.now, m.changed, m.down
}

// Watch implements discovery.Resolver. It may deliver a set again when another service changed.
func (m *Memory) Watch(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
	for {
		now, changed, down := m.state()
		if down != nil {
			return down
		}
		err := watchUntil(ctx, changed, now, service, update)
		if ctx.Err() != nil || !errors.Is(err, context.Canceled) {
			return err
		}
	}
}

// watchUntil watches a fixed set of services until the channel is closed.
func watchUntil(
	ctx context.Context, changed <-chan struct{}, now discovery.Static, service string, update func([]discovery.Endpoint),
) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		select {
		case <-changed:
			cancel()
		case <-ctx.Done():
		}
	})
	return now.Watch(ctx, service, update)
}

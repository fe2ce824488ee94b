package zerohop

import (
	"slices"
	"strings"
	"sync"
)

// Routes is where calls to a service can go.
type Routes struct {
	// Generation is the number of the Spec that says so.
	Generation uint64
	// Services are those that Mesh.Reachable returns.
	Services []string
}

// Follow calls fn with where calls to the service can go, at once and after each Update that changes something, until stop
// is called. Calls are sequential, and none begins after stop returned. fn must call neither stop nor Update. It is for
// transports that hold connections of their own.
func (m *Mesh) Follow(name string, fn func(Routes)) (stop func()) {
	f := &follower{mesh: m, name: strings.ToLower(name), fn: fn}
	m.listening.Lock()
	m.followers = append(slices.Clone(m.followers), f)
	m.listening.Unlock()
	f.tell()
	return func() {
		m.listening.Lock()
		m.followers = slices.DeleteFunc(slices.Clone(m.followers), func(other *follower) bool { return other == f })
		m.listening.Unlock()
		f.mu.Lock() // waits for a call that is under way
		defer f.mu.Unlock()
		f.fn = nil
	}
}

// follower is one call of Follow.
type follower struct {
	mesh *Mesh
	name string

	mu   sync.Mutex // held while fn runs
	fn   func(Routes)
	told uint64
}

// tell calls fn if there is something new.
func (f *follower) tell() {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.mesh.present.Load()
	if f.fn == nil || g.number == f.told {
		return
	}
	f.told = g.number
	f.fn(Routes{Generation: g.number, Services: g.reachable(f.name)})
}

//go:build unix

package outage

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
)

const (
	lasting = 60 * time.Second // of a fault
	// promptly is the time in which a mesh has to see what a source says that is well again.
	promptly = 2 * time.Second
	// unnoticed is the same for a watch whose connection ended without a word.
	unnoticed = 45*time.Second + promptly
	// refused is the same for a source that said that it is asked too much: half a minute is how long it is spared then.
	refused = 30*time.Second + promptly
	// patience is how long things may take that have no bound of their own.
	patience = 30 * time.Second
	// spare is how many requests may come at once.
	spare = 5
)

// cell is a source with a fault.
type cell struct {
	service  string
	resolver discovery.Resolver
	// list makes the source list exactly the addresses.
	list func(t testing.TB, addrs []string)
	// begin begins the fault and heal ends it; heal may be nil.
	begin, heal func(t testing.TB)
	// over is set if the fault is over as soon as it has begun.
	over bool
	// mute is set if the source cannot be told anything while it lasts.
	mute bool
	// bound is the time within which the true endpoints must be known. 0 means promptly.
	bound time.Duration
	trust zerohop.Discovery
	// requests counts what the source is asked; nil if nobody does.
	requests *atomic.Int64

	addrs []string // what is listed first
}

func (c *cell) run(t *testing.T) row {
	var backends []*backend
	for range 4 {
		backends = append(backends, startBackend(t))
	}
	c.addrs = addrsOf(backends)
	c.list(t, c.addrs)
	var failures atomic.Int64
	m, err := zerohop.New(zerohop.Config{
		Resolver:  c.resolver,
		Addresses: discovery.AddressPolicy{AllowLoopback: true}, // where all backends are
		Discovery: c.trust,
		Hooks: zerohop.Hooks{Discovery: func(_ string, e discovery.Event) {
			if e.Kind == discovery.EventWatchFailed {
				failures.Add(1)
			}
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	f := follow(t, m, c.service)
	f.until(t, patience, c.addrs)
	l := startLoad(t, m, c.service)
	<-time.After(2 * time.Second)

	asked, failed, begun := c.asked(), failures.Load(), time.Now()
	c.begin(t)
	if !c.over {
		<-time.After(lasting / 4)
	}
	backends[0].stop()
	backends[0] = startBackend(t)
	want := addrsOf(backends)
	if !c.mute {
		c.list(t, want)
	}
	if !c.over {
		<-time.After(time.Until(begun.Add(lasting)))
	}
	state, _ := m.Discovery(c.service)
	if c.heal != nil {
		c.heal(t)
	}
	if c.mute {
		c.list(t, want)
	}
	healed := time.Now()
	if c.bound == 0 {
		c.bound = promptly
	}
	f.until(t, c.bound+patience, want)
	r := row{
		name: c.service, healing: time.Since(healed), bound: c.bound, age: state.Age,
		requests: -1, failures: int(failures.Load() - failed), counted: time.Since(begun),
	}
	if c.requests != nil {
		r.requests = int(c.asked() - asked)
	}
	<-time.After(time.Second)
	f.until(t, 0, want) // and so it stays
	var errs []error
	r.calls, errs = l.stop()
	r.failed = len(errs)
	for i, err := range errs {
		if i == 10 {
			break
		}
		t.Errorf("call failed: %v", err)
	}
	if r.failed > 0 {
		t.Errorf("%d of %d calls failed", r.failed, r.calls)
	}
	if r.healing > r.bound {
		t.Errorf("the true endpoints were known after %v, want %v", r.healing, r.bound)
	}
	if most := int(r.counted.Seconds()) + spare; r.requests > most || r.failures > most {
		t.Errorf("%d requests and %d failed watches in %v, want at most %d", r.requests, r.failures, r.counted, most)
	}
	return r
}

func (c *cell) asked() int64 {
	if c.requests == nil {
		return 0
	}
	return c.requests.Load()
}

// follower notes what a mesh knows of a service.
type follower struct {
	changed chan struct{} // holds a value after known has changed

	mu    sync.Mutex
	known []string // guarded by mu: addresses, sorted
}

func follow(t *testing.T, m *zerohop.Mesh, service string) *follower {
	f := &follower{changed: make(chan struct{}, 1)}
	stop, err := m.Subscribe(service, func(e zerohop.Endpoints) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.known = nil
		for _, n := range e.Balancer.Set().Nodes() {
			f.known = append(f.known, n.Addr())
		}
		slices.Sort(f.known)
		select {
		case f.changed <- struct{}{}:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return f
}

// until waits until the mesh knows exactly the given addresses, which are sorted.
func (f *follower) until(t *testing.T, limit time.Duration, want []string) {
	t.Helper()
	expired := time.After(limit)
	for {
		f.mu.Lock()
		known := f.known
		f.mu.Unlock()
		if slices.Equal(known, want) {
			return
		}
		select {
		case <-f.changed:
		case <-expired:
			t.Fatalf("the mesh knows %v, want %v", known, want)
		}
	}
}

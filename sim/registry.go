package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
)

// registry is the source of the endpoints of a service. Its watchers are goroutines of the meshes, which run only while the
// simulation waits for them. It tells them of something one after the other, so that what they do is in the same order
// in every run.
type registry struct {
	world   *world
	rnd     *rand.Rand // of the simulation's goroutine
	feeds   []*feed
	settled time.Duration // when the last watcher is told of the last change

	mu      sync.Mutex           // guards what follows, which watchers read
	first   []discovery.Endpoint // that there were
	list    []discovery.Endpoint // that there are
	told    []discovery.Endpoint // before changes were lost
	wrong   Registry
	barren  bool // it says that there are no endpoints
	since   time.Duration
	size    int           // of what it lists
	shrunk  time.Duration // when it last listed less than half of what it had; 0 if it never did
	version int           // of what it says
}

// feed is what one mesh hears of one service.
type feed struct {
	registry *registry
	mesh     *mesh
	service  string
	rnd      *rand.Rand // of the watcher
	news     chan news
	apart    time.Duration // keeps it from drawing random words at the same moment as another one of its mesh
	due      time.Duration // when the last news come that are under way
	balancer *loadbalance.Balancer

	// Guarded by the lock of the registry.
	watching bool
	version  int  // of what it heard last
	had      bool // endpoints
	wiped    bool // it has none any more, although nobody had said so for long
	nodes    int
	thinned  bool // it has lost most of them in the same way
}

// news is what a watcher is told.
type news struct {
	version int
	list    []discovery.Endpoint
	err     error
}

var (
	errBroken    = errors.New("sim: the registry does not answer")
	errRestarted = errors.New("sim: the registry restarts")
)

func (k Registry) rank() int {
	if i := slices.Index(registries, k); i >= 0 {
		return i
	}
	return len(registries)
}

// wrong returns which of the present faults of the registry counts.
func (s *service) wrong() Registry {
	var worst Registry
	for _, f := range s.faults {
		if f.Registry != "" && f.Registry.rank() < worst.rank() {
			worst = f.Registry
		}
	}
	return worst
}

// listed returns the endpoints that have not left.
func (s *service) listed() []discovery.Endpoint {
	var list []discovery.Endpoint
	for _, e := range s.endpoints {
		if e.unlisted {
			continue
		}
		ep := discovery.Endpoint{Addr: e.addr}
		if len(s.Zones) > 0 {
			ep.Zone = s.Zones[e.number%len(s.Zones)]
		}
		if len(s.Weights) > 0 {
			ep.Weight = s.Weights[e.number%len(s.Weights)]
		}
		list = append(list, ep)
	}
	return list
}

// publish brings the registry up to date with the endpoints and the faults of the service, and tells who watches.
func (s *service) publish() {
	r, wrong := &s.registry, s.wrong()
	was := r.become(s.listed(), wrong)
	r.settled = s.world.now
	if wrong == RegistryLost {
		return // and what comes then is told when it is over
	}
	for _, f := range r.feeds {
		at := s.world.now
		if wrong == RegistryLate {
			at += time.Duration(r.rnd.Int64N(int64(time.Second)))
		}
		f.due = max(at, f.due)
		r.settled = max(r.settled, f.due)
		if f.due > s.world.now {
			n := f.hear()
			s.world.at(f.due, func() { f.tell(n) })
			continue
		}
		n := f.hear()
		if wrong == RegistryRestarted && was != wrong {
			n.err = errRestarted
		}
		f.tell(n)
	}
	s.settle()
}

// become takes over what there is, and what is wrong with the registry; it returns what was.
func (r *registry) become(list []discovery.Endpoint, wrong Registry) (was Registry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if was = r.wrong; was != RegistryLost {
		r.told = r.list
	}
	if r.first == nil {
		r.first, r.told = list, list
	}
	r.list, r.wrong = list, wrong
	r.version++
	barren := wrong == RegistryEmpty || wrong == RegistryUnknown || len(list) == 0
	if barren && !r.barren {
		r.since = r.world.now
	}
	if wrong != RegistryBroken { // which says nothing
		r.barren = barren
		n := len(r.list)
		if wrong == RegistryPartial {
			n = len(fourth(r.list))
		}
		if fewer(n, r.size) {
			r.shrunk = r.world.now
		}
		r.size = n
	}
	return was
}

// fourth returns the part of a list that is left of it in a partial answer.
func fourth(list []discovery.Endpoint) []discovery.Endpoint { return list[:(len(list)+3)/4] }

// fewer reports whether most endpoints are gone of so many that it is an accident rather than a deployment.
func fewer(n, of int) bool { return of >= 4 && n > 0 && 2*n < of }

// hear returns what the registry says now to one who asks.
func (f *feed) hear() news {
	r := f.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	n := news{version: r.version, list: slices.Clone(r.list)}
	switch r.wrong {
	case RegistryBroken:
		n.list, n.err = nil, errBroken
	case RegistryUnknown:
		n.list, n.err = nil, discovery.ErrUnknownService
	case RegistryEmpty:
		n.list = nil
	case RegistryPartial:
		n.list = fourth(n.list)
	case RegistryLost:
		n.list = slices.Clone(r.told)
	case RegistryStale:
		n.list = slices.Clone(r.first)
	case RegistryGarbage:
		n.list = garbled(f.rnd, n.list)
	case RegistryRestarted:
		f.rnd.Shuffle(len(n.list), func(i, j int) { n.list[i], n.list[j] = n.list[j], n.list[i] })
	}
	return n
}

// garbled adds what makes no sense to a list, and takes away what does for one answer in three.
func garbled(rnd *rand.Rand, list []discovery.Endpoint) []discovery.Endpoint {
	if rnd.IntN(3) == 0 {
		list = nil
	}
	for _, addr := range []string{"", ":80", "nowhere", "10.0.0.1:port", "10.0.0.1:0", "http://10.0.0.1:80/", "10.0.0.1:80\r\nHost: x"} {
		list = append(list, discovery.Endpoint{Addr: addr})
	}
	for _, ep := range slices.Clone(list) {
		ep.Zone, ep.Meta = "\x00", map[string]string{"\x00": string(make([]byte, 10_000))}
		list = append(list, ep) // again: the first one counts
	}
	return list
}

// tell brings news to the watcher, if there is one: else it asks anew by itself. It returns when all has come of it.
func (f *feed) tell(n news) {
	f.mesh.arrive(func() {
		r := f.registry
		r.mu.Lock()
		stale := !f.watching || n.version < f.version
		r.mu.Unlock()
		if !stale {
			f.news <- n
			synctest.Wait()
		}
	})
}

// Watch makes a mesh its own discovery.Resolver.
func (m *mesh) Watch(ctx context.Context, name string, update func([]discovery.Endpoint)) error {
	f := m.feeds[name]
	if f == nil {
		return discovery.ErrUnknownService
	}
	r := f.registry
	time.Sleep(f.apart)
	n := f.hear()
	r.mu.Lock()
	f.watching = true
	select {
	case <-f.news: // came too late for the last watch
	default:
	}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		f.watching = false
	}()
	for {
		r.mu.Lock()
		f.version = n.version
		r.mu.Unlock()
		if n.err != nil {
			return n.err
		}
		update(n.list)
		select {
		case n = <-f.news:
		case <-ctx.Done():
			time.Sleep(f.apart)
			return ctx.Err()
		}
	}
}

// converge is how long a mesh may take to use the endpoints that its source has named again: that of the longest pause
// between two watches, and a bit.
const converge = 2 * time.Second

// takes returns how long it takes until all use what the source lists: it must insist if that is much less than before.
func (r *registry) takes() time.Duration {
	if r.shrunk > 0 && r.settled-r.shrunk < grace {
		return converge + grace + time.Second
	}
	return converge
}

// settle has checked, some time after the last change, that all meshes use the endpoints that there are.
func (s *service) settle() {
	r := &s.registry
	at := r.settled
	s.world.at(at+r.takes(), func() {
		if r.settled != at || r.wrong != "" || len(r.list) == 0 || s.world.ended {
			return
		}
		for _, f := range r.feeds {
			if f.mesh.steady(r.takes()) {
				f.checkSet()
			}
		}
	})
}

// checkSet is told that the mesh must use the endpoints that there are.
func (f *feed) checkSet() {
	w, list := f.registry.world, f.registry.list
	nodes := f.balancer.Set().Nodes()
	for _, n := range nodes {
		if e := w.byAddr[n.Addr()]; e == nil || e.unlisted {
			w.violated("%s uses %s of %s, which is not there", f.mesh.name, n.Addr(), f.service)
		}
	}
	if len(list) > 0 && len(nodes) == 0 || len(list) <= whole && len(nodes) != len(list) {
		w.violated("%s uses %d endpoints of %s, want %d", f.mesh.name, len(nodes), f.service, len(list))
	}
}

// whole is how many endpoints are too few for a client to keep to a part of them.
const whole = 32

// settled reports whether the mesh must know by now which endpoints there are.
func (f *feed) settled() bool {
	r := f.registry
	return r.wrong == "" && len(r.list) > 0 && r.world.now-r.settled > r.takes() && f.mesh.steady(r.takes())
}

// follow is told of the endpoints that the mesh uses.
func (f *feed) follow(e zerohop.Endpoints) {
	r := f.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.balancer == nil { // it stays the same, and is read without the lock
		f.balancer = e.Balancer
	}
	nodes := len(e.Balancer.Set().Nodes())
	has := nodes > 0
	if f.had && !has && !errors.Is(e.Err, zerohop.ErrClosed) && (!r.barren || time.Since(r.world.made)-r.since < grace) {
		f.wiped = true
	}
	if fewer(nodes, f.nodes) && r.shrunk > 0 && time.Since(r.world.start)-r.shrunk < grace {
		f.thinned = true
	}
	f.had, f.nodes = has, nodes
}

// grace is how long a source that had endpoints must say that there are none, or few, before it is believed.
const grace = 5 * time.Second

package sim

import (
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"testing/synctest"
	"time"
)

// world is a simulation under way. All of it happens in one goroutine; those of meshes, which watch for endpoints, run only
// while it waits for them.
type world struct {
	scenario *Scenario
	made     time.Time
	start    time.Time     // when all is made
	now      time.Duration // after start
	events   events
	count    uint64 // events so far
	trace    uint64 // hash of what happened
	services map[string]*service
	named    []*service // by name
	byAddr   map[string]*endpoint
	meshes   []*mesh
	calls    []*call // under way
	feeds    int
	ended    bool // what ends now is not counted
	result   *Result
	broken   []error // invariants
}

// at plans something.
func (w *world) at(at time.Duration, do func()) {
	w.count++
	order := w.count
	if g := w.scenario.Grain; g > 0 {
		at = (at + g - 1) / g * g
		order = mixed(w.scenario.Seed ^ order)
	}
	w.events.push(event{max(at, w.now), order, do})
}

// after plans something for later.
func (w *world) after(d time.Duration, do func()) { w.at(w.now+d, do) }

// run does what is planned up to and including the given time.
func (w *world) run(until time.Duration) {
	for len(w.events) > 0 && w.events[0].at <= until {
		e := w.events.pop()
		if e.at > w.now {
			w.now = e.at
			time.Sleep(time.Until(w.time()))
			synctest.Wait() // timers of contexts that end now
		}
		e.do()
	}
}

func (w *world) time() time.Time { return w.start.Add(w.now) }

// note adds to the trace that something happened now.
func (w *world) note(what kind, subject uint64) {
	h := w.trace
	for _, word := range [...]uint64{uint64(w.now), uint64(what), subject} {
		h = mixed(h ^ word)
	}
	w.trace = h
}

// kind is a kind of what a trace has.
type kind uint64

const (
	callBegun kind = iota + 1
	callDone
	attemptBegun
	attemptDone
	requestCame
	requestDone
	faultChanged
)

// mixed is the finalizer of splitmix64: it spreads every bit over all.
func mixed(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// stream returns the random words of one part. What others draw, or that there are others, changes nothing in them.
func (w *world) stream(part string) *rand.PCG {
	h := fnv.New64a()
	h.Write([]byte(part))
	return rand.NewPCG(w.scenario.Seed, h.Sum64())
}

// endpoints returns those that a fault is about.
func (w *world) endpoints(f *Fault) []*endpoint {
	s := w.services[f.Service]
	if f.Endpoints == nil {
		return s.endpoints
	}
	list := make([]*endpoint, len(f.Endpoints))
	for i, n := range f.Endpoints {
		list[i] = s.endpoints[n]
	}
	return list
}

// plan lets the faults happen.
func (w *world) plan() {
	for i := range w.scenario.Faults {
		f := &w.scenario.Faults[i]
		w.at(f.At, func() {
			s := w.services[f.Service]
			s.faults = append(s.faults, f)
			w.note(faultChanged, uint64(2*i))
			w.changed(f)
			if f.For == 0 {
				return
			}
			w.at(f.At+f.For, func() {
				s.faults = slices.DeleteFunc(s.faults, func(g *Fault) bool { return f == g })
				w.note(faultChanged, uint64(2*i+1))
				w.changed(f)
			})
		})
	}
}

// changed brings what a fault is about into the state that all present faults make.
func (w *world) changed(f *Fault) {
	s := w.services[f.Service]
	for _, e := range w.endpoints(f) {
		e.become(s.stateOf(e.number))
	}
	if f.Leave || f.Registry != "" {
		s.publish()
	}
	if f.Pause || f.Late > 0 {
		s.disturb()
	}
}

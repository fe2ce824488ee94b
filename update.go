package zerohop

import (
	"errors"
	"fmt"
	"slices"
)

// ErrNoRoute is why a call failed that waited for the first endpoint of a service, or was about to, when an Update took the service
// out of the spec or wrote its name in another case. Nothing was sent; a call made again goes by the Spec in force.
var ErrNoRoute = errors.New("zerohop: the service is no longer in the spec")

// Change is what an Update has changed, or would change.
type Change struct {
	// Generation is the number of the Spec: 1 is that of New, and every Update that changes something adds 1.
	Generation uint64
	// Fields are those that changed. There is none if the Spec is the one that was in force.
	Fields []FieldChange
	// Resets says what forgets what it had learned, each as the path of what has changed, a colon, and words for people.
	Resets []string
}

// UpdateEvent tells of an Update that changed something, or that was refused.
type UpdateEvent struct {
	// Generation is the number of the Spec in force now. Events of Updates at the same time may come in any order.
	Generation uint64
	// Change is what has changed, if Err is nil.
	Change Change
	// Err is why the Update was refused, nil if it was not.
	Err error
}

// Update puts another Spec in force, while calls are made. It is checked as a whole first: if anything is wrong with it, the
// error names the field of every mistake, and nothing changes. If the Spec is the same as before, nothing happens.
//
// A call has one Spec, the one in force when it began, for all its attempts. The next call has the new one. What the new Spec
// leaves as it is goes on as it was: connections, load and latency of endpoints, ejections, circuit breakers, budgets, rate limits
// and what was learned about latencies. Change.Resets says what does not. Services are the same if their names are, and routes
// if theirs are, or if those without a name match the same calls; their order and their weights do not matter.
//
//   - Where Balance or its parameters change, endpoints are picked anew, with what is known of them. So it is with Outlier (whose
//     ejections go on, unless it is off), Locality, Subset, SlowStart, Panic and EndpointLimit.
//   - A Budget that changes is as full as the one before.
//   - A RateLimit, Limit, Throttle, Breaker or ServiceBreaker that changes begins anew. Breakers that are open remain so, and a state
//     set by ForceBreaker holds.
//   - HealthCheck begins anew if it changes, but endpoints are not: until their first check they are what they were found to be.
//   - Connect.ServerName and Connect.Unix are for connections made from then on; the rest of Connect is for endpoints that come from
//     then on.
//
// Services that are new are looked up at once. A service that the Spec names no longer goes on as one that only calls name, if its
// name is a single label and it was called within five minutes, or has gRPC connections, or an Operation is in force on it. Else its
// watch ends; calls that have begun go on to their end, but for those that wait for its first endpoint, which fail with ErrNoRoute.
// Hosts that are no longer services pass to the base transport of an httpmesh.Transport.
//
// Updates are made one at a time; of several the last one wins. The Spec is copied. Hooks.Update is called before it returns. It
// returns ErrClosed if the mesh is closed.
func (m *Mesh) Update(spec Spec) (Change, error) {
	m.updating.Lock()
	x, change, err := m.prepare(spec, true)
	var release func()
	if x != nil {
		release = x.hold()
		x.settle()
	}
	now := m.present.Load().number
	m.updating.Unlock()
	if release != nil {
		release()
	}
	if h := m.cfg.Hooks.Update; h != nil && (err != nil && !errors.Is(err, ErrClosed) || x != nil) {
		h(UpdateEvent{Generation: now, Change: change, Err: err})
	}
	return change, err
}

// Check returns what Update would do with the Spec, and does nothing: neither is Hooks.Update called.
func (m *Mesh) Check(spec Spec) (Change, error) {
	m.updating.Lock()
	defer m.updating.Unlock()
	_, change, err := m.prepare(spec, false)
	return change, err
}

// Spec returns a copy of the Spec in force and its generation.
func (m *Mesh) Spec() (spec Spec, generation uint64) {
	g := m.present.Load()
	return g.spec.clone(), g.number
}

// prepare finds out what a spec changes, and enacts it if that is wanted. It returns nil if there is nothing to do.
func (m *Mesh) prepare(spec Spec, enact bool) (*succession, Change, error) {
	present := m.present.Load()
	change := Change{Generation: present.number}
	if m.ctx.Err() != nil {
		return nil, change, ErrClosed
	}
	if err := spec.bounded(); err != nil {
		return nil, change, fmt.Errorf("zerohop: invalid spec: %w", err)
	}
	if present.flat == nil {
		present.flat = present.spec.flat()
	}
	flat := spec.flat()
	fields := diff(present.flat, flat)
	if len(fields) == 0 {
		return nil, change, nil
	}
	err := errors.Join(spec.validate(m.cfg.Balancers), spec.validateCheckers(m.cfg.Checkers, true))
	if err != nil {
		return nil, change, fmt.Errorf("zerohop: invalid spec: %w", err)
	}
	spec = spec.clone()
	table, err := spec.table()
	if err != nil {
		return nil, change, fmt.Errorf("zerohop: invalid spec: %w", err)
	}
	m.mu.Lock()
	x := m.succeed(present, spec, table)
	x.to.flat = flat
	if enact {
		m.enact(x)
	}
	m.mu.Unlock()
	if !enact {
		for _, u := range x.fresh {
			u.stop(nil)
		}
	}
	return x, Change{Generation: x.to.number, Fields: fields, Resets: x.resets}, nil
}

// enact puts a generation in force.
func (m *Mesh) enact(x *succession) {
	for _, s := range x.to.known() {
		s.now.Store(s)
	}
	m.present.Store(x.to)
}

// hold lets the events of services wait until release is called, when no lock is held any more.
func (x *succession) hold() (release func()) {
	if !x.mesh.told() {
		return nil
	}
	services := x.to.known() // which may become another map meanwhile
	for _, s := range services {
		s.upstream.hold()
	}
	return func() {
		for _, s := range services {
			s.upstream.release()
		}
	}
}

// settle has what outlives generations follow one that was put in force.
func (x *succession) settle() {
	for _, s := range x.renewed {
		s.renew(s)
	}
	if x.from != nil && x.mesh.told() {
		for _, s := range x.to.known() {
			s.replaced(false)
		}
	}
	for _, u := range x.gone {
		u.stop(ErrNoRoute)
	}
	unneeded := x.to.unneeded()
	for key, s := range x.to.known() {
		if s.named && !unneeded[key] {
			s.start()
		}
	}
	m := x.mesh
	m.listening.Lock()
	followers := slices.Clone(m.followers)
	m.listening.Unlock()
	for _, f := range followers {
		f.tell()
	}
}

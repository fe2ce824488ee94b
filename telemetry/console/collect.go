package console

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
)

// collector counts for the meshes that have its hooks: one, unless they share them.
type collector struct {
	console *Console
	id      string
	name    string // empty if it has none of its own
	opened  int    // how many meshes have been, under Console.mu

	strangers ration // of explanations of what is no service
	// ended says that nothing is counted: none of the meshes is shown, or none is open any more. It is written under mu.
	ended atomic.Bool

	// What calls look up is replaced, never changed.
	services atomic.Pointer[map[string]*serviceCount]
	routes   atomic.Pointer[map[routeKey]*routeCount]

	mu        sync.Mutex // guards what follows, and writes of the above; nothing else is locked under it
	endpoints map[endpointKey]*endpointCount
}

type (
	endpointKey struct{ service, addr string }
	// routeKey is a backend of a rule, -1 if it has none.
	routeKey struct{ rule, backend int16 }
)

// Hooks returns the hooks that tell the console about a mesh, which is shown under Config.Name. Each mesh needs hooks of its own: what
// meshes that share them do is counted together. Calls of the mesh may go on after Close; they are counted no more.
func (c *Console) Hooks() zerohop.Hooks { return c.Named("") }

// Named returns hooks as Hooks does, of a mesh that is shown under a name of its own. Where another mesh of the process calls a service of
// that name, the topology shows the two as one.
func (c *Console) Named(name string) zerohop.Hooks {
	m := &collector{console: c, id: strconv.FormatUint(c.collectors.Add(1), 10), name: name, endpoints: map[endpointKey]*endpointCount{}}
	m.services.Store(&map[string]*serviceCount{})
	m.routes.Store(&map[routeKey]*routeCount{})
	return zerohop.Hooks{
		CallDone: func(_ context.Context, call zerohop.CallInfo, r zerohop.CallResult) { m.callDone(&call, &r) },
		AttemptDone: func(_ context.Context, call zerohop.CallInfo, a zerohop.AttemptInfo, r zerohop.AttemptResult) {
			m.attemptDone(&call, &a, &r)
		},
		Refused:   m.refused,
		Discovery: m.discovery,
		Health:    m.health,
		State:     m.state,
		Explained: m.explained,
		Opened:    m.meshOpened,
		Closed:    m.meshClosed,
		Update:    m.updated,
	}
}

func (m *collector) callDone(call *zerohop.CallInfo, r *zerohop.CallResult) {
	failed, neutral := r.Outcome == resilience.Failure || r.Outcome == resilience.Overload, r.Outcome == resilience.Neutral
	if s := m.service(call.Service); s != nil {
		s.shard(r.Duration).count(r.Duration, failed, neutral)
	}
	if call.Rule >= 0 {
		if t := m.route(call); t != nil {
			t.count(r.Duration, failed, neutral)
		}
	}
}

func (m *collector) attemptDone(call *zerohop.CallInfo, a *zerohop.AttemptInfo, r *zerohop.AttemptResult) {
	if a.Node == nil { // none was found: nothing was attempted
		return
	}
	e := a.Node.Attach(m, func() (any, func()) { return m.newEndpoint(call.Service, a.Node.Addr()) }).(*endpointCount)
	if e == nil {
		m.leftOut()
		return
	}
	h := e.service.shard(r.Latency)
	h.attempts.Add(1)
	switch {
	case a.Backup:
		h.backups.Add(1)
	case a.Number > 0:
		h.retries.Add(1)
	}
	e.count(r.Latency, r.Outcome == resilience.Failure || r.Outcome == resilience.Overload, r.Outcome == resilience.Neutral)
}

func (m *collector) refused(_ context.Context, call zerohop.CallInfo, r zerohop.Refusal) {
	if s := m.service(call.Service); s != nil && r.Enforced {
		s.shard(time.Since(call.Start)).refused.Add(1)
	}
}

// leftOut counts a call or an attempt that has no place.
func (m *collector) leftOut() {
	if !m.ended.Load() {
		m.console.uncounted.Add(1)
	}
}

// service returns the counts of a service, nil if there are too many or the mesh is closed.
func (m *collector) service(name string) *serviceCount {
	if s := (*m.services.Load())[name]; s != nil {
		return s
	}
	return m.newService(name)
}

func (m *collector) newService(name string) *serviceCount {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := *m.services.Load()
	if s := old[name]; s != nil {
		return s
	}
	if m.ended.Load() || !take(&m.console.services, MaxServices) {
		m.leftOut()
		return nil
	}
	s := &serviceCount{name: name}
	next := maps.Clone(old)
	next[name] = s
	m.services.Store(&next)
	return s
}

// route returns the counts of what a call was routed by, nil if there are too many.
func (m *collector) route(call *zerohop.CallInfo) *routeCount {
	key := routeKey{call.Rule, call.Backend}
	if t := (*m.routes.Load())[key]; t != nil && t.name == call.Route {
		return t
	}
	return m.newRoute(key, call.Route)
}

func (m *collector) newRoute(key routeKey, name string) *routeCount {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := *m.routes.Load()
	if t := old[key]; t != nil {
		if t.name == name {
			return t
		}
		// One of them is of a call that began before the last update: the counts begin anew.
	} else if m.ended.Load() || !take(&m.console.routes, MaxRoutes) {
		m.leftOut()
		return nil
	}
	t := &routeCount{name: name}
	next := maps.Clone(old)
	next[key] = t
	m.routes.Store(&next)
	return t
}

// newEndpoint returns the counts of an endpoint, nil if there are too many, and what lets go of them.
func (m *collector) newEndpoint(service, addr string) (*endpointCount, func()) {
	s := m.service(service)
	if s == nil || !take(&m.console.endpoints, MaxEndpoints) {
		return (*endpointCount)(nil), func() {}
	}
	e := &endpointCount{service: s}
	key := endpointKey{service, addr}
	m.mu.Lock()
	if m.endpoints[key] != nil { // of a node that is leaving
		m.console.endpoints.Add(-1)
	}
	m.endpoints[key] = e
	m.mu.Unlock()
	return e, func() {
		m.mu.Lock()
		if m.endpoints[key] == e {
			delete(m.endpoints, key)
			m.console.endpoints.Add(-1)
		}
		m.mu.Unlock()
	}
}

// take counts one more, if there are fewer than most.
func take(n *atomic.Int64, most int64) bool {
	if n.Add(1) > most {
		n.Add(-1)
		return false
	}
	return true
}

// silent is how many ticks a service may be silent when room is scarce.
const silent = 150

// sample takes note of what a tick has brought. Console.mu is locked.
func (m *collector) sample() {
	services := *m.services.Load()
	for _, s := range services {
		s.sample()
	}
	routes := *m.routes.Load()
	for _, t := range routes {
		t.sample()
	}
	for _, e := range m.sampled() {
		e.sample()
	}
	if m.console.services.Load() > MaxServices/2 {
		m.forget(services)
	}
}

// sampled returns the counts of endpoints.
func (m *collector) sampled() []*endpointCount {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]*endpointCount, 0, len(m.endpoints))
	for _, e := range m.endpoints {
		list = append(list, e)
	}
	return list
}

// forget drops services that nobody calls, to make room for others: names may come and go.
func (m *collector) forget(services map[string]*serviceCount) {
	idle := map[*serviceCount]string{}
	for name, s := range services {
		if s.idle > silent {
			idle[s] = name
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.endpoints { // which count for their service, too
		delete(idle, e.service)
	}
	if len(idle) == 0 {
		return
	}
	next := maps.Clone(*m.services.Load())
	for _, name := range idle {
		delete(next, name)
	}
	m.services.Store(&next)
	m.console.services.Add(-int64(len(idle)))
}

// drop lets go of all counts, and has no new ones: calls may go on after their mesh was closed.
func (m *collector) drop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended.Store(true)
	m.console.services.Add(-int64(len(*m.services.Load())))
	m.console.routes.Add(-int64(len(*m.routes.Load())))
	m.services.Store(&map[string]*serviceCount{})
	m.routes.Store(&map[routeKey]*routeCount{})
}

// reroute forgets what routes have counted: those of another spec have other places.
func (m *collector) reroute() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.console.routes.Add(-int64(len(*m.routes.Load())))
	m.routes.Store(&map[routeKey]*routeCount{})
}

func (m *collector) meshOpened(mesh *zerohop.Mesh) {
	c := m.console
	o := &openMesh{mesh: mesh, collector: m, id: m.id, opened: time.Now()}
	c.mu.Lock()
	c.moves++
	if m.opened++; m.opened > 1 {
		o.id += "." + strconv.Itoa(m.opened)
	}
	full := len(c.meshes) >= MaxMeshes
	if !full {
		c.meshes = append(c.meshes, o)
		m.ended.Store(false)
	} else if !m.shown() {
		m.drop()
	}
	c.mu.Unlock()
	if !full {
		c.timeline.add(&Event{Time: o.opened, ServiceName: ServiceName{Mesh: o.id}, Kind: "mesh opened", Level: levelInfo, Text: "the mesh was opened"}, c)
	}
}

func (m *collector) meshClosed(mesh *zerohop.Mesh) {
	c := m.console
	var closed *openMesh
	c.mu.Lock()
	c.moves++
	for i, o := range c.meshes {
		if o.mesh == mesh {
			closed = o
			c.meshes = append(c.meshes[:i:i], c.meshes[i+1:]...)
			break
		}
	}
	if closed != nil && !m.shown() {
		m.drop()
	}
	c.mu.Unlock()
	if closed == nil {
		return
	}
	c.timeline.add(&Event{Time: time.Now(), ServiceName: ServiceName{Mesh: closed.id}, Kind: "mesh closed", Level: levelInfo, Text: "the mesh was closed"}, c)
}

// shown reports whether a mesh of the collector is shown. Console.mu is locked.
func (m *collector) shown() bool {
	return slices.ContainsFunc(m.console.meshes, func(o *openMesh) bool { return o.collector == m })
}

func (m *collector) updated(ev zerohop.UpdateEvent) {
	if ev.Err == nil {
		m.reroute()
	}
	m.console.timeline.add(updateEvent(m.id, ev), m.console)
}

func (m *collector) discovery(service string, ev discovery.Event) {
	if e := discoveryEvent(m.id, service, ev); e != nil {
		m.console.timeline.add(e, m.console)
	}
}

func (m *collector) health(service string, ev zerohop.HealthEvent) {
	m.console.timeline.add(healthEvent(m.id, service, ev), m.console)
}

func (m *collector) state(service string, ev zerohop.StateEvent) {
	m.console.timeline.add(stateEvent(m.id, service, ev), m.console)
}

// explained keeps an explanation: of each service a few a second, so that an outage leaves room for others and costs calls little.
func (m *collector) explained(_ context.Context, e *zerohop.Explanation) {
	most := int64(4)
	if !failedCall(e) {
		most = 1
	}
	from := &m.strangers
	if s := (*m.services.Load())[e.Service]; s != nil {
		from = &s.kept
	} else if e.Detail != resilience.Unroutable { // else the call may not have begun, and its name be of any kind
		if s = m.service(e.Service); s == nil {
			return
		}
		from = &s.kept
	}
	if from.take(int64(time.Since(m.console.base)/time.Second), most) {
		m.console.failures.add(m.id, e)
	}
}

// ration is a second, and in the last byte how many explanations were kept in it.
type ration struct{ atomic.Int64 }

// take reports whether fewer than most explanations were kept in this second, and counts one more then.
func (r *ration) take(second, most int64) bool {
	for {
		old := r.Load()
		n := old & 0xff
		if old>>8 != second {
			n = 0
		}
		if n >= most {
			return false
		}
		if r.CompareAndSwap(old, second<<8|(n+1)) {
			return true
		}
	}
}

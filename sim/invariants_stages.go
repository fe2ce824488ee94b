package sim

import (
	"math"
	"strings"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// gate is what a mesh has its calls of a service pass.
type gate struct {
	queue int // of the limit
	turns bool
	level resilience.Criticality // of calls that have none
}

// gateOf returns what the spec says of a service.
func gateOf(spec *zerohop.Spec, service string) gate {
	p, own := spec.Defaults, zerohop.Policy{}
	for name := range spec.Services {
		if strings.EqualFold(name, service) {
			own = spec.Services[name]
		}
	}
	g := gate{queue: own.Limit.Queue, level: own.Criticality.Or(p.Criticality)}
	if g.queue == 0 {
		g.queue = p.Limit.Queue
	}
	g.turns = own.RateLimit.MaxWait > 0 || own.RateLimit.MaxWait == 0 && p.RateLimit.MaxWait > 0
	return g
}

// turns are those that a rate limit has given, by the book: tokens that come at its rate, as many as its burst at most.
type turns struct {
	tokens float64
	at     time.Duration
}

// checkStages is told of every attempt that begins, and is in flight.
func (w *world) checkStages(c *call, a *attempt) {
	p := a.step.Policy()
	w.checkBudget(c.mesh.ledger(a.step), a)
	if p.EndpointLimit.Mode == zerohop.On {
		w.checkEndpointLimit(p, a.node)
	}
	if len(c.attempts) > 1 || c.mesh.routed {
		return
	}
	if p.RateLimit.Mode == zerohop.On && p.Limit.Queue == 0 {
		w.checkRate(c, &p.RateLimit)
	}
	if p.Limit.Mode != zerohop.On {
		return
	}
	if c.waits = false; c.passed || !c.told && c.outruns() {
		w.violated("%s makes a call of %s, and lets one wait that is more critical", c.mesh.name, c.request.Service)
	}
	w.checkLimit(c, &p.Limit)
}

func (w *world) checkEndpointLimit(p *zerohop.Policy, n *loadbalance.Node) {
	most := p.EndpointLimit.Max
	if most == 0 && p.EndpointLimit.Algorithm != "fixed" {
		return
	}
	if most == 0 {
		most = 1024
	}
	if got := n.InFlight(); got > most {
		w.violated("%d attempts are in flight on %s, which is limited to %d", got, n.Addr(), most)
	}
}

// checkRate is told that a call has begun that had to ask a rate limit.
func (w *world) checkRate(c *call, p *zerohop.RateLimit) {
	m := c.mesh
	if m.late > 0 || m.resumed > 0 || w.scenario.Grain > 0 {
		return // calls begin later than when it is their turn
	}
	burst := float64(p.Burst)
	if burst == 0 {
		burst = max(1, math.Floor(p.Rate))
	}
	t := m.turns[c.request.Service]
	if t == nil {
		t = &turns{tokens: burst}
		m.turns[c.request.Service] = t
	}
	t.tokens = min(burst, t.tokens+(w.now-t.at).Seconds()*p.Rate) - 1
	if t.at = w.now; t.tokens < -1e-6 {
		w.violated("%s makes more calls of %s than %v per second and %v at once", m.name, c.request.Service, p.Rate, burst)
	}
}

// checkLimit is told that a call has begun that had to ask for a place.
func (w *world) checkLimit(c *call, p *zerohop.Limit) {
	st, ok := c.mesh.LimitState(c.request.Service)
	if !ok {
		return
	}
	most := st.Limit
	if p.Algorithm == "aimd" || p.Algorithm == "gradient" { // it may have fallen since
		if most = p.Max; most == 0 {
			most = 1000
		}
	}
	under := 0
	for _, o := range w.calls {
		if o.mesh == c.mesh && o.request.Service == c.request.Service && len(o.attempts) > 0 {
			under++
		}
	}
	if under > most || st.InFlight > most || under > st.InFlight {
		w.violated("%d calls of %s are in flight, and %d according to their limit of %d", under, c.request.Service, st.InFlight, most)
	}
}

// checkQueue is told of every call that has come as far as it does without waiting.
func (w *world) checkQueue(c *call) {
	if !c.waits || c.mesh.routed {
		return
	}
	st, _ := c.mesh.LimitState(c.request.Service)
	if most := c.mesh.gates[c.request.Service].queue; st.Queued > most {
		w.violated("%d calls of %s wait for a place, but %d may", st.Queued, c.request.Service, most)
	}
}

// outruns reports whether the call has a place while one waits for that which is more critical.
func (c *call) outruns() bool {
	if c.mesh.routed || c.mesh.gates[c.request.Service].turns { // who waits may do so for a turn
		return false
	}
	own := c.criticality()
	for _, o := range c.world.calls {
		if o != c && o.waits && o.mesh == c.mesh && o.request.Service == c.request.Service && o.criticality() > own {
			return true
		}
	}
	return false
}

// criticality is that of the call but for what policies say, which is the same for all calls of a mesh.
func (c *call) criticality() resilience.Criticality {
	level := c.level
	if c.inbound != nil {
		level = level.Or(c.inbound.Criticality)
	}
	return level.Or(c.mesh.gates[c.request.Service].level).Or(resilience.Critical)
}

// checkPlaces is told of a service that no call is under way of.
func (w *world) checkPlaces(m *mesh, service string) {
	if st, _ := m.LimitState(service); st.InFlight != 0 || st.Queued != 0 {
		w.violated("%s: %d calls of %s are in flight according to their limit, and %d wait, but none is under way", m.name, st.InFlight, service, st.Queued)
	}
}

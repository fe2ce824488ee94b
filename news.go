package zerohop

import (
	"sync"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// news tells Hooks.State what happens to a service: in order, one event at a time, and with no lock held.
type news struct {
	mu      sync.Mutex // guards what follows
	queue   []StateEvent
	lost    int       // since the last event that is in the queue
	held    int       // so many want events to wait until they have given locks back
	telling bool      // somebody calls the hook
	broken  StateKind // the last that was told of the breaker of the service, empty for a closed one
}

// maxNews bounds the events that wait for a slow hook. Others are lost, but for their number: by then it hears of what is long past.
const maxNews = 1000

// told reports whether somebody wants to know what happens.
func (m *Mesh) told() bool { return m.cfg.Hooks.State != nil }

// tell tells the hook of an event, as soon as nobody holds it up.
func (u *upstream) tell(ev StateEvent) {
	if !u.mesh.told() {
		return
	}
	u.news.mu.Lock()
	u.note(ev)
	u.spread()
}

// note puts an event in the queue. news.mu is held.
func (u *upstream) note(ev StateEvent) {
	n := &u.news
	n.lost += ev.Lost
	if len(n.queue) >= maxNews {
		n.lost++
		return
	}
	ev.Lost, n.lost = n.lost, 0
	n.queue = append(n.queue, ev)
}

// spread empties the queue, unless somebody else does or will, and gives news.mu back, which is held.
func (u *upstream) spread() {
	n := &u.news
	defer n.mu.Unlock()
	if n.telling || n.held > 0 {
		return
	}
	n.telling = true
	defer func() { n.telling = false }()
	for len(n.queue) > 0 {
		ev := n.queue[0]
		n.queue = n.queue[1:]
		u.hand(ev)
	}
	n.queue = nil
}

// hand calls the hook without news.mu, which is held before and after, even if the hook panics.
func (u *upstream) hand(ev StateEvent) {
	u.news.mu.Unlock()
	defer u.news.mu.Lock()
	u.mesh.cfg.Hooks.State(u.name, ev)
}

// hold lets events wait for release, for those who cause some while they have a lock.
func (u *upstream) hold() {
	if !u.mesh.told() {
		return
	}
	u.news.mu.Lock()
	u.news.held++
	u.news.mu.Unlock()
}

func (u *upstream) release() {
	if !u.mesh.told() {
		return
	}
	u.news.mu.Lock()
	u.news.held--
	u.spread()
}

// balanced takes over an event of the balancer. What operators do is told by those who do it for them.
func (u *upstream) balanced(ev loadbalance.Event) {
	kind := kindOf(ev.Kind)
	if kind == "" {
		u.news.mu.Lock()
		u.news.lost += ev.Lost
		u.news.mu.Unlock()
		return
	}
	out, all := u.count() // not those of ev, which leaves endpoints with open breakers in service
	u.tell(StateEvent{
		Kind: kind, Addr: ev.Addr, Zone: ev.Zone, Cause: causeOf(ev.Cause), Time: ev.Time, Until: ev.Until,
		Value: ev.Value, Bound: ev.Bound, Out: out, Endpoints: all, Lost: ev.Lost,
	})
}

// kindOf returns what an event of a balancer is called here, nothing for those that operators cause.
func kindOf(k loadbalance.EventKind) StateKind {
	switch k {
	case loadbalance.Ejected:
		return StateEjected
	case loadbalance.Spared:
		return StateSpared
	case loadbalance.Returned:
		return StateReturned
	case loadbalance.PanicBegan:
		return StatePanicBegan
	case loadbalance.PanicEnded:
		return StatePanicEnded
	case loadbalance.BreakerOpened:
		return StateBreakerOpened
	case loadbalance.BreakerHalfOpened:
		return StateBreakerHalfOpened
	case loadbalance.BreakerClosed:
		return StateBreakerClosed
	case loadbalance.SpillBegan:
		return StateSpillBegan
	case loadbalance.SpillEnded:
		return StateSpillEnded
	default:
		return ""
	}
}

// watchBreaker has changes of a breaker of the service told while it is in force.
func (u *upstream) watchBreaker(b *resilience.Breaker) {
	if b == nil || !u.mesh.told() {
		return
	}
	b.Observe(func(c resilience.BreakerChange) {
		if s := u.now.Load(); s != nil && s.breaker.Load() == b {
			u.breakerIs(c.State, u.mesh.at(c.At), c.Until, c.Forced)
		}
	})
}

// replaced tells of the breaker of the service where another one than before is in force.
func (u *upstream) replaced(forced bool) {
	s := u.now.Load()
	if !u.mesh.told() || s == nil {
		return
	}
	now := time.Now()
	if b := s.breaker.Load(); b != nil {
		u.breakerIs(b.State(now.Sub(u.mesh.base)), now, b.OpenUntil(), forced)
	} else {
		u.breakerIs(resilience.BreakerClosed, now, 0, forced)
	}
}

// breakerIs tells of the breaker of the service what it is now, unless that is what was told last.
func (u *upstream) breakerIs(state resilience.BreakerState, at time.Time, until time.Duration, forced bool) {
	ev := StateEvent{Kind: StateBreakerClosed, Time: at}
	switch state {
	case resilience.BreakerOpen, resilience.BreakerForcedOpen:
		ev.Kind = StateBreakerOpened
	case resilience.BreakerHalfOpen:
		ev.Kind = StateBreakerHalfOpened
	}
	if until > 0 {
		ev.Until = u.mesh.at(until)
	}
	if forced {
		ev.Cause, ev.To = causeOf(loadbalance.Operator), state
	}
	ev.Out, ev.Endpoints = u.count()
	n := &u.news
	n.mu.Lock()
	if was := pick(n.broken, StateBreakerClosed); was != ev.Kind {
		n.broken = ev.Kind
		u.note(ev)
	}
	u.spread()
}

// count returns how many of the endpoints in use are out of service, be it by their breakers.
func (u *upstream) count() (out, all int) {
	nodes := u.balancer.Set().Nodes()
	for _, n := range nodes {
		if !n.Available(time.Time{}) {
			out++
		}
	}
	return out, len(nodes)
}

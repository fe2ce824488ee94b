package loadbalance

import (
	"sync"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// mostNews is how many events wait at most while the observer is busy with one. A tenth of it would lose what happens to a large
// service that goes down at once, ten times as much would be told when nobody cares any more.
const mostNews = 1024

// news are the events of a balancer that are yet to be told.
type news struct {
	mu      sync.Mutex // guards what follows; taken after all others
	queue   []Event
	lost    int  // since the last event that is in the queue
	telling bool // somebody is about it
	// What was told last.
	panicking, spilling bool
}

// event notes an event about a node, to be told when no lock is held any more.
func (n *Node) event(kind EventKind, why reason, now, until time.Duration) {
	b := n.owner
	if b.observer.Load() == nil {
		return
	}
	ep := n.ep.Load()
	e := Event{Kind: kind, Cause: why.cause, Addr: ep.Addr, Zone: ep.Zone, Time: b.base.Add(now), Value: why.value, Bound: why.bound}
	if until > 0 {
		e.Until = b.base.Add(until)
	}
	b.news.mu.Lock()
	b.news.add(e)
	b.news.mu.Unlock()
}

// reason is why something happens to a node.
type reason struct {
	cause        Cause
	value, bound float64
}

func (w *news) add(e Event) {
	if len(w.queue) >= mostNews {
		w.lost++
		return
	}
	e.Lost, w.lost = w.lost, 0
	w.queue = append(w.queue, e)
}

// tell tells the observer what has happened, unless somebody else is about it, who goes on with it then. No lock is held.
func (b *Balancer) tell(now time.Duration) {
	if b.observer.Load() == nil {
		return
	}
	w := &b.news
	w.mu.Lock()
	p := b.present()
	b.review(p, now)
	if w.telling || len(w.queue) == 0 {
		w.mu.Unlock()
		return
	}
	w.telling = true
	finished := false
	defer func() {
		if !finished { // the observer panicked
			w.mu.Lock()
		}
		w.telling = false
		w.mu.Unlock()
	}()
	for len(w.queue) > 0 {
		e := w.queue[0]
		w.queue = w.queue[1:]
		w.mu.Unlock()
		if f := b.observer.Load(); f != nil {
			if p = b.present(); p != nil {
				e.Out, e.Nodes = p.out, p.nodes
			}
			(*f)(e)
		}
		w.mu.Lock()
	}
	w.queue, finished = nil, true
}

// present returns the plan of the present set with all that has changed, nil if it is empty.
func (b *Balancer) present() *plan {
	s := b.set.Load()
	p := s.plan.Load()
	if p != nil && p.changes != b.changes.Load() {
		return s.newPlan() // if it is also made by another, that is not waited for
	}
	return p
}

// review notes where panic, or the calls that leave their zone or priority, have begun or ended. w.mu is held.
func (b *Balancer) review(p *plan, now time.Duration) {
	w := &b.news
	e := Event{Time: b.base.Add(now)}
	panicking := p != nil && p.panicking
	if panicking != w.panicking {
		w.panicking = panicking
		e.Kind = PanicEnded
		if panicking {
			e.Kind = PanicBegan
		}
		w.add(e)
	}
	leaving := 0.0
	if p != nil {
		leaving = p.leaving
	}
	if spilling := leaving > 0; spilling != w.spilling {
		w.spilling = spilling
		e.Kind = SpillEnded
		if spilling {
			e.Kind, e.Value = SpillBegan, leaving
		}
		w.add(e)
	}
}

// observeBreaker has the breaker of the node tell of its changes, if somebody wants to know.
func (n *Node) observeBreaker() {
	br := n.breaker.Load()
	if br == nil {
		return
	}
	if n.owner.observer.Load() == nil {
		br.Observe(nil)
		return
	}
	br.Observe(func(c resilience.BreakerChange) {
		kind := BreakerClosed
		switch c.State {
		case resilience.BreakerOpen, resilience.BreakerForcedOpen:
			kind = BreakerOpened
		case resilience.BreakerHalfOpen:
			kind = BreakerHalfOpened
		}
		var why reason
		if c.Forced {
			why.cause = Operator
		}
		n.event(kind, why, c.At, c.Until)
		n.owner.tell(c.At)
	})
}

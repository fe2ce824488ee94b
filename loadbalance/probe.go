package loadbalance

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrNoProbes says that an endpoint does not answer probes. It is asked again after a minute.
var ErrNoProbes = errors.New("loadbalance: endpoint does not answer probes")

// ErrProberClosed says that the Prober itself is of no more use, so that nothing was found out about the endpoint.
var ErrProberClosed = errors.New("loadbalance: prober is closed")

// Prober asks an endpoint for its load. Transports have one, for servers that have their server half.
type Prober interface {
	// Probe returns what the endpoint says, with InFlight as in an answer to a call: the probe counts. It returns at the
	// latest soon after ctx has ended, ErrNoProbes if the endpoint does not know what it is asked, and ErrProberClosed if it
	// was not asked since whatever the Prober works with was closed. It must be safe for concurrent use.
	Probe(ctx context.Context, n *Node) (Load, error)
}

// noProbesFor is how long an endpoint that does not answer probes is not asked, and the longest pause after probes that
// got no answer.
const noProbesFor = time.Minute

// probe sets how nodes are probed. It is called by builders.
func (b *Balancer) probe(c *PrequalConfig) {
	if old := b.probing.Load(); c.Probes > 0 && (old == nil || *old != *c) {
		b.probing.Store(c)
	}
}

// Probing returns the settings, with defaults, by which Probe asks nodes for their load, nil if it asks none.
func (b *Balancer) Probing() *PrequalConfig { return b.probing.Load() }

// Probe asks nodes for their load that calls may go to and that have said nothing of late: PrequalConfig.Probes at most, all
// at a time. It blocks until they have answered, or for PrequalConfig.ProbeTimeout, and returns the last error. Who calls
// it does so beside the calls and not before them, and keeps to PrequalConfig.ProbeRate. A probe counts as in flight on
// its node, but what became of it says nothing for or against the node.
//
// A node that does not answer in time is asked again after half of MaxAge, then after twice that, and so on up to a
// minute.
func (b *Balancer) Probe(ctx context.Context, p Prober) (err error) {
	c := b.probing.Load()
	if c == nil {
		return nil
	}
	var room [maxPool]*Node
	list := b.Set().unheard(time.Now(), c, room[:0:c.Probes])
	if len(list) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.ProbeTimeout)
	defer cancel()
	var errs [maxPool]error
	var probes sync.WaitGroup
	for i, n := range list {
		probes.Go(func() { errs[i] = n.probe(ctx, c, p) })
	}
	probes.Wait()
	return errors.Join(errs[:]...)
}

// unheard appends nodes to the list until that is full, and claims them for the caller.
func (s *Set) unheard(now time.Time, c *PrequalConfig, list []*Node) []*Node {
	plan := s.current()
	if plan == nil {
		return nil
	}
	r := s.balancer.random()
	nodes := plan.draw(r).level.nodes
	start, at := index(next(r), len(nodes)), s.balancer.since(now)
	for _, age := range [...]time.Duration{max(c.MaxAge/2, c.ProbeAge), c.ProbeAge} { // those first whose reports soon do not count
		for k := range min(len(nodes), sounded) {
			if len(list) == cap(list) {
				return list
			}
			n := nodes[(start+k)%len(nodes)]
			if n.Available(now) && !n.penalty.active(at) && n.unheard(at, age, c.ProbeAge) {
				list = append(list, n)
			}
		}
	}
	return list
}

// unheard reports whether the node has said nothing for so long, to one caller only in each pause.
func (n *Node) unheard(at, age, pause time.Duration) bool {
	v, ok := n.find(reportKey{})
	if !ok {
		return false
	}
	r := v.(*report)
	if word := n.said.Load(); word != 0 && int32(ticks(at)-uint32(word)) < int32(age>>tickShift) {
		return false
	}
	until := r.hush.Load()
	return int64(at) >= until && r.hush.CompareAndSwap(until, int64(at+pause))
}

// probe asks the node. That its transport keeps something for it while it is in flight is why it counts.
func (n *Node) probe(ctx context.Context, c *PrequalConfig, p Prober) error {
	n.inflight.Add(1)
	l, err := p.Probe(ctx, n)
	now, r := time.Now(), n.report()
	switch {
	case err == nil:
		r.missed.Store(0)
		n.ReportLoad(now, l)
	case errors.Is(err, ErrProberClosed):
		r.hush.Store(0)
	case errors.Is(err, ErrNoProbes):
		r.hush.Store(int64(n.since(now) + noProbesFor))
	default:
		pause := min(min(max(c.ProbeAge, c.MaxAge/2), noProbesFor)<<min(r.missed.Add(1), 16), noProbesFor)
		r.hush.Store(int64(n.since(now) + pause))
	}
	if n.inflight.Add(-1) == 0 && n.gone() {
		n.release()
	}
	return err
}

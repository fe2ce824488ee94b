package zerohop

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
)

// probing asks endpoints of a service for their load while there are calls, if they are picked by that. It runs in the
// background: all that calls do is to wake it.
type probing struct {
	service *upstream
	prober  loadbalance.Prober
	awake   atomic.Bool   // a round is due or under way, or the last one is too recent
	wake    chan struct{} // of one, so that calls never wait
}

// WantsProber reports whether the endpoints of the attempt's service should be asked for their load, and nobody does so
// yet. It costs next to nothing where they should not.
func (a *Attempt) WantsProber() bool {
	s := a.call.target.service
	return s.balancer.Probing() != nil && s.probing.Load() == nil && s.mesh.cfg.Probers[s.key] == nil
}

// SetProber hands over what the endpoints are asked by, until a Probe returns ErrProberClosed: then the next attempt is to bring
// another one. It keeps the first one if there are two.
func (a *Attempt) SetProber(p loadbalance.Prober) { a.call.target.service.ask(p) }

// ask begins to ask endpoints by p. It returns nil if the mesh is closed.
func (s *upstream) ask(prober loadbalance.Prober) *probing {
	p := &probing{service: s, prober: prober, wake: make(chan struct{}, 1)}
	if s.probing.CompareAndSwap(nil, p) && !s.mesh.task(p.run) {
		return nil
	}
	return s.probing.Load()
}

// stir is told that there is a call.
func (s *upstream) stir() {
	if s.balancer.Probing() == nil {
		return
	}
	p := s.probing.Load()
	if p == nil {
		if own := s.mesh.cfg.Probers[s.key]; own != nil {
			p = s.ask(own)
		}
	}
	if p != nil && !p.awake.Load() && p.awake.CompareAndSwap(false, true) {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// run makes a round of probes for each time that it is woken, but no more than there may be in a second. It ends with the
// service, or when the prober is closed.
func (p *probing) run() {
	ended := p.service.ctx.Done()
	for {
		select {
		case <-p.wake:
		case <-ended:
			return
		}
		began := time.Now()
		if err := p.service.balancer.Probe(p.service.ctx, p.prober); errors.Is(err, loadbalance.ErrProberClosed) {
			p.service.probing.CompareAndSwap(p, nil)
			return
		}
		c := p.service.balancer.Probing()
		if c == nil { // another algorithm has come
			p.service.probing.CompareAndSwap(p, nil)
			return
		}
		pause := time.Duration(min(float64(c.Probes)/c.ProbeRate, 3600) * float64(time.Second))
		rest := time.NewTimer(pause - time.Since(began))
		select {
		case <-rest.C:
		case <-ended:
			rest.Stop()
			return
		}
		p.awake.Store(false)
	}
}

package zerohop

import (
	"strings"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// newServiceBreaker returns the breaker of a service as its policy has it, nil if it has none.
func newServiceBreaker(m *Mesh, p *Policy) *resilience.Breaker {
	mode := p.ServiceBreaker.Mode
	if !mode.decides() {
		return nil
	}
	c := p.ServiceBreaker.config(p)
	c.Seed = m.cfg.Rand()
	b := resilience.NewBreaker(c)
	if mode == Observe {
		_ = b.Force(0, resilience.BreakerMetricsOnly)
	}
	return b
}

// ForceBreaker sets the state of the circuit breaker of a service by hand, whatever its policy says:
// resilience.BreakerForcedOpen stops all calls of it, BreakerDisabled lets all pass, BreakerMetricsOnly only observes. These
// last until the next call of ForceBreaker. BreakerOpen and BreakerHalfOpen are what it goes on from. BreakerClosed gives
// it back to its policy, and forgets what was counted. It returns an error if there is no such state, or if the mesh
// is closed.
func (m *Mesh) ForceBreaker(service string, state resilience.BreakerState) error {
	s, err := m.find(service)
	if err != nil {
		return err
	}
	u, now := s.upstream, time.Now()
	u.hold()
	defer u.release()
	u.operations.mu.Lock()
	defer u.operations.mu.Unlock()
	if err := u.setBreaker(state); err != nil {
		return err
	}
	if u.operations.forced = ""; lasting(state) {
		u.operations.forced = state
	}
	u.drop(now, ActionForceBreaker)
	return nil
}

// setBreaker forces the breaker of the service, and tells of it. operations.mu is held, and news wait.
func (u *upstream) setBreaker(state resilience.BreakerState) error {
	for {
		s := u.now.Load()
		if err := s.force(state); err != nil {
			return err
		}
		if now := u.now.Load(); now.breaker == s.breaker { // else it was replaced meanwhile
			u.replaced(true)
			return nil
		}
	}
}

func (s *service) force(state resilience.BreakerState) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state == resilience.BreakerClosed {
		b := newServiceBreaker(s.mesh, &s.policy)
		s.watchBreaker(b)
		s.breaker.Store(b)
		return nil
	}
	b := s.breaker.Load()
	if b == nil {
		b = s.newBreaker()
		s.watchBreaker(b)
	}
	if err := b.Force(s.mesh.now(), state); err != nil {
		return err
	}
	s.breaker.Store(b)
	return nil
}

// newBreaker returns one for the service, whatever its mode.
func (s *service) newBreaker() *resilience.Breaker {
	c := s.policy.ServiceBreaker.config(&s.policy)
	c.Seed = s.mesh.cfg.Rand()
	return resilience.NewBreaker(c)
}

// BreakerState returns the state of the circuit breaker of a service, empty if it has none or was never called, and when
// it admits its next attempt: the zero time if it is not open or nobody knows.
func (m *Mesh) BreakerState(service string) (state resilience.BreakerState, until time.Time) {
	s := m.known()[strings.ToLower(service)]
	if s == nil {
		return "", time.Time{}
	}
	b := s.breaker.Load()
	if b == nil {
		return "", time.Time{}
	}
	if d := b.OpenUntil(); d > 0 {
		until = m.at(d)
	}
	return b.State(m.now()), until
}

// broken asks the breaker for a permit for the attempt, and returns why there is none.
func (c *Call) broken(now time.Duration, a *Attempt, b *resilience.Breaker) error {
	p, ok, enforced := b.Ask(now)
	if !ok {
		r := Refusal{Stage: StageBreaker, Attempt: a.Number, Enforced: enforced, After: max(b.OpenUntil()-now, 0), Err: resilience.ErrBreakerOpen}
		if err := c.refuse(&r); err != nil {
			return err
		}
	}
	a.permit = p
	return nil
}

package zerohop

import (
	"sync"

	"github.com/zerohop/zerohop/loadbalance"
)

// Endpoints is what is known of the endpoints of a service.
type Endpoints struct {
	// Balancer holds the nodes.
	Balancer *loadbalance.Balancer
	// Known is set as soon as the source has answered, be it with no endpoints.
	Known bool
	// Err is why the source does not answer now; nil if it does.
	Err error
}

// Subscribe calls fn with what is known of the endpoints of the service, at once and after each change, until
// stop is called. Calls are sequential, and none begins after stop returned. fn must not call stop. It is for
// transports that hold connections of their own; calls need no subscription.
func (m *Mesh) Subscribe(name string, fn func(Endpoints)) (stop func(), err error) {
	if m.ctx.Err() != nil {
		return nil, ErrClosed
	}
	s, err := m.service(name)
	if err != nil {
		return nil, err
	}
	sub := &subscription{fn: fn}
	s.mu.Lock()
	s.subs[sub] = struct{}{}
	s.mu.Unlock()
	sub.tell(s)
	return func() {
		sub.mu.Lock() // waits for a call that is under way
		defer sub.mu.Unlock()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.subs, sub)
	}, nil
}

// subscription is one call of Subscribe. The lock of the service is taken under mu, never the other way round.
type subscription struct {
	mu sync.Mutex // held while fn runs
	fn func(Endpoints)
}

// tell calls fn, unless stop was called.
func (sub *subscription) tell(s *service) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	s.mu.Lock()
	_, live := s.subs[sub]
	eps := Endpoints{Balancer: s.balancer, Known: s.known, Err: s.err}
	s.mu.Unlock()
	if live {
		sub.fn(eps)
	}
}

package zerohop

import (
	"context"
	"sync"

	"github.com/zerohop/zerohop/loadbalance"
)

// Endpoints is what is known of the endpoints of a service.
type Endpoints struct {
	// Balancer holds the nodes.
	Balancer *loadbalance.Balancer
	// Known is set as soon as the source has answered, be it with no endpoints.
	Known bool
	// Err is why the source does not answer now, nil if it does. It is ErrClosed in the last call, if that is because
	// the mesh was closed.
	Err error

	hash  []HashSource
	keyed bool
}

// Hash returns the hash of the key of a call for loadbalance.Info.Hash: that in the CallOptions of ctx, or else the one
// that the policy of the service finds in x. It is 0 if there is none. It is for transports that pick without a Call.
func (e *Endpoints) Hash(ctx context.Context, x Keyed) uint64 {
	if !e.keyed {
		return 0
	}
	return hashOf(heard(ctx).options.HashKey, e.hash, x)
}

// Subscribe calls fn with what is known of the endpoints of the service, at once and after each change, until
// stop is called. Calls are sequential, and none begins after stop returned. fn must call neither stop nor Update. It is for
// transports that hold connections of their own; calls need no subscription.
func (m *Mesh) Subscribe(name string, fn func(Endpoints)) (stop func(), err error) {
	if m.ctx.Err() != nil {
		return nil, ErrClosed
	}
	sub := &subscription{fn: fn}
	var s *upstream
	for s == nil || !m.enlist(s, sub) {
		found, err := m.service(name)
		if err != nil {
			return nil, err
		}
		s = found.upstream
	}
	sub.tell(s)
	return func() {
		sub.mu.Lock() // waits for a call that is under way
		defer sub.mu.Unlock()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.subs, sub)
	}, nil
}

// enlist adds the subscription, unless the service has just given way to others: nobody would tell it anything.
func (m *Mesh) enlist(s *upstream, sub *subscription) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := m.known()[s.key]; now == nil || now.upstream != s {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs[sub] = struct{}{}
	return true
}

// subscription is one call of Subscribe. The lock of the service is taken under mu, never the other way round.
type subscription struct {
	mu sync.Mutex // held while fn runs
	fn func(Endpoints)
}

// tell calls fn, unless stop was called.
func (sub *subscription) tell(s *upstream) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	s.mu.Lock()
	_, live := s.subs[sub]
	now := s.now.Load()
	eps := Endpoints{Balancer: s.balancer, Known: s.known, Err: s.err, hash: now.policy.Hash, keyed: now.keyed}
	s.mu.Unlock()
	if live {
		sub.fn(eps)
	}
}

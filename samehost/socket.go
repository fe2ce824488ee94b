package samehost

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	// firstRest and lastRest bound how long a socket is left alone after a failure; each one doubles it. To look at one that is
	// not there takes some ten microseconds, so that it may be done several times a second; a tenth of that would be felt where
	// every request has a connection of its own. One that is back is used again within half a minute, which ten times the rest
	// would make five.
	firstRest = 250 * time.Millisecond
	lastRest  = 30 * time.Second
)

// ErrResting says that a socket has failed a short while ago and is not tried now.
var ErrResting = errors.New("samehost: socket has failed a short while ago")

// Socket is the socket of one instance and what is remembered of it. It is made by NewSocket and safe for concurrent use.
type Socket struct {
	policy *Policy
	addr   Address

	mu       sync.Mutex // guards what follows
	failures int        // in a row
	until    time.Time  // no dials before
	err      error      // the last one; nil once it works
	works    bool       // the last connection was good
}

// NewSocket returns the socket at an address, for a caller with that policy, which is not copied.
func NewSocket(p *Policy, a Address) *Socket { return &Socket{policy: p, addr: a} }

// Address returns what the instance has said of the socket.
func (s *Socket) Address() Address { return s.addr }

// Dial connects to the socket if the policy allows, and checks who listens there. It does not wait for anybody: a server that
// is behind with accepting connections is an error, too. After one the socket is not tried for a while: ErrResting. Who has
// connected says by Report whether the connection was good for something.
func (s *Socket) Dial(ctx context.Context) (*net.UnixConn, error) {
	if err := s.resting(time.Now()); err != nil {
		return nil, err
	}
	conn, err := s.dial(ctx)
	if err != nil {
		err = fmt.Errorf("samehost: socket %q: %w", s.addr.Path, err)
		if ctx.Err() == nil {
			s.failed(err)
		}
		return nil, err
	}
	return conn, nil
}

func (s *Socket) resting(now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Before(s.until) {
		return fmt.Errorf("%w: %w", ErrResting, s.err)
	}
	return nil
}

func (s *Socket) dial(ctx context.Context) (*net.UnixConn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.policy.check(s.addr); err != nil {
		return nil, err
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", s.addr.Path)
	if err != nil {
		return nil, err
	}
	conn := c.(*net.UnixConn)
	uid, err := peerOf(conn)
	if err == nil && !s.policy.trusts(uid) {
		err = forbidden(fmt.Errorf("user %d, who listens there, is not one of the owners that sockets are taken from", uid))
	}
	if err == nil {
		err = s.policy.check(s.addr) // it may have been another one a moment ago
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// Report takes note of what a connection to the socket was good for: an error means that whatever is spoken over it could not
// begin, nil that it has.
func (s *Socket) Report(err error) {
	if err != nil {
		s.failed(&reasonError{ReasonSilent, err})
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures, s.err, s.until, s.works = 0, nil, time.Time{}, true
}

// failed has the socket rest.
func (s *Socket) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.works = err, false
	now := time.Now()
	if now.Before(s.until) {
		return // of a dial that began before the rest
	}
	s.until = now.Add(min(firstRest<<min(s.failures, 10), lastRest))
	s.failures++
}

// Failed returns why the socket was not used last time, and until when it is left alone; nil if it was used, or never tried.
func (s *Socket) Failed() (until time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.until, s.err
}

// Works reports whether the last connection to the socket was good for something.
func (s *Socket) Works() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.works
}

package zerohop

import (
	"strings"
	"sync"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/samehost"
)

// Socket returns the Unix socket by which an endpoint of a service can be reached, with what is remembered of it, or nil if
// there is none that may be used: the endpoint says nothing of one, or is on another host, or Config.Sockets or Policy.Connect
// do not allow it. It is for transports, before each connection that they make; calls over connections there are need not ask.
func (m *Mesh) Socket(service string, n *loadbalance.Node) *samehost.Socket {
	if !m.cfg.Sockets.Enabled() {
		return nil
	}
	if s := m.known()[strings.ToLower(service)]; s != nil {
		return s.socket(n)
	}
	return nil
}

// HasSockets reports whether Socket can ever return one.
func (m *Mesh) HasSockets() bool { return m.cfg.Sockets.Enabled() }

func (s *service) socket(n *loadbalance.Node) *samehost.Socket {
	p := &s.mesh.cfg.Sockets
	if !p.Enabled() || s.policy.Connect.Unix == Off {
		return nil
	}
	addr, ok := samehost.AddressOf(n.Endpoint().Meta)
	if !ok || !addr.Near() {
		return nil
	}
	return n.Attach(socketKey{}, func() (any, func()) { return &lastSocket{}, func() {} }).(*lastSocket).at(p, addr)
}

type socketKey struct{}

// lastSocket is the socket that a node last said that it has.
type lastSocket struct {
	mu sync.Mutex // guards s
	s  *samehost.Socket
}

func (l *lastSocket) at(p *samehost.Policy, a samehost.Address) *samehost.Socket {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.s == nil || l.s.Address() != a {
		l.s = samehost.NewSocket(p, a)
	}
	return l.s
}

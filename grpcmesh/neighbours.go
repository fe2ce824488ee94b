package grpcmesh

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/samehost"
)

// neighbours are the endpoints of the connections made with some dial options, by address: that is all that a dialer of gRPC is
// told. A nil one knows of none.
type neighbours struct {
	mesh *zerohop.Mesh
	byAt sync.Map // of address to *neighbour

	mu sync.Mutex // guards the lists of all neighbours, and writes of byAt
}

// neighbour is an address and its connections.
type neighbour struct {
	nodes []resident  // that have the address
	local atomic.Bool // the last connection was made to a socket
}

// resident is a node of a service, which several connections may have.
type resident struct {
	service string
	node    *loadbalance.Node
	uses    int
}

// add takes note of a node of a service.
func (l *neighbours) add(service string, n *loadbalance.Node) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	v, _ := l.byAt.LoadOrStore(n.Addr(), &neighbour{})
	at := v.(*neighbour)
	for i := range at.nodes {
		if at.nodes[i].node == n {
			at.nodes[i].uses++
			return
		}
	}
	at.nodes = append(at.nodes, resident{service, n, 1})
}

// remove undoes add.
func (l *neighbours) remove(n *loadbalance.Node) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	v, ok := l.byAt.Load(n.Addr())
	if !ok {
		return
	}
	at := v.(*neighbour)
	for i := range at.nodes {
		if r := &at.nodes[i]; r.node == n {
			if r.uses--; r.uses == 0 {
				at.nodes = append(at.nodes[:i:i], at.nodes[i+1:]...)
			}
			break
		}
	}
	if len(at.nodes) == 0 {
		l.byAt.Delete(n.Addr())
	}
}

// find returns the nodes at an address.
func (l *neighbours) find(addr string) (at *neighbour, nodes []resident) {
	v, ok := l.byAt.Load(addr)
	if !ok {
		return nil, nil
	}
	at = v.(*neighbour)
	l.mu.Lock()
	defer l.mu.Unlock()
	return at, slices.Clone(at.nodes)
}

// dial connects to the socket of an endpoint. It returns nil if that does not work, and why if there is one that may be used.
func (l *neighbours) dial(ctx context.Context, addr string, control dialControl) (net.Conn, error) {
	at, nodes := l.find(addr)
	for _, r := range nodes {
		s := l.mesh.Socket(r.service, r.node)
		if s == nil {
			continue
		}
		if control != nil && control(ctx, "tcp", addr, nil) != nil {
			return nil, nil // the dialer says why
		}
		conn, err := s.Dial(ctx)
		if err != nil {
			return nil, err
		}
		at.local.Store(true)
		return &nearConn{Conn: conn, socket: s}, nil
	}
	return nil, nil
}

// dialled takes note of a connection by TCP.
func (l *neighbours) dialled(addr string) {
	if v, ok := l.byAt.Load(addr); ok {
		v.(*neighbour).local.Store(false)
	}
}

// tell has hooks know of a connection. gRPC does not say for which service it is: endpoints of several are counted for the first.
func (l *neighbours) tell(ev zerohop.ConnectionEvent) {
	if _, nodes := l.find(ev.Addr); len(nodes) > 0 {
		l.mesh.Connected(nodes[0].service, ev)
	}
}

// over returns over what RPCs to an address go. gRPC does not say which of its connections an RPC takes, so where several
// grpc.ClientConns are made with the same options, it is what the last of their connections to the address was made over.
func (l *neighbours) over(addr string) zerohop.Network {
	if v, ok := l.byAt.Load(addr); ok && v.(*neighbour).local.Load() {
		return zerohop.NetworkUnix
	}
	return zerohop.NetworkTCP
}

// over returns over what RPCs to an address go.
func (s *shared) over(addr string) zerohop.Network {
	switch {
	case s.inProcess[addr] != nil:
		return zerohop.NetworkInProcess
	case s.near == nil:
		return zerohop.NetworkTCP
	}
	return s.near.over(addr)
}

var errSilent = errors.New("grpcmesh: server has closed the connection before it said anything, or was not heard in time")

// nearConn is a connection to a socket. It is of no use if nothing has come over it by the time it is closed: servers of gRPC
// say what they take before anybody asks.
type nearConn struct {
	net.Conn
	socket *samehost.Socket
	heard  atomic.Bool
	closed atomic.Bool
}

func (c *nearConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.heard.Load() && !c.heard.Swap(true) {
		c.socket.Report(nil)
	}
	return n, err
}

func (c *nearConn) Close() error {
	if !c.closed.Swap(true) && !c.heard.Load() {
		c.socket.Report(errSilent)
	}
	return c.Conn.Close()
}

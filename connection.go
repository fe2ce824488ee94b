package zerohop

import "github.com/zerohop/zerohop/samehost"

// ConnectionEvent is a connection that was made to an endpoint, or could not be.
type ConnectionEvent struct {
	// Addr is the address of the endpoint.
	Addr string
	// Network is over what the connection is, or would have been.
	Network Network
	// Fallback is why it is not to the Unix socket of the endpoint; empty if it is, or if there is none that may be used.
	Fallback samehost.Reason
	// Err is why there is no connection, nil if there is one.
	Err error
}

// Connected tells Hooks.Connection of an event, unless the mesh is closed. It is for transports.
func (m *Mesh) Connected(service string, ev ConnectionEvent) {
	f := m.cfg.Hooks.Connection
	if f == nil {
		return
	}
	m.life.Lock()
	if m.closed {
		m.life.Unlock()
		return
	}
	m.tasks.Add(1)
	m.life.Unlock()
	defer m.tasks.Done()
	f(service, ev)
}

// ObservesConnections reports whether Connected tells anybody.
func (m *Mesh) ObservesConnections() bool { return m.cfg.Hooks.Connection != nil }

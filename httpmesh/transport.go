package httpmesh

import (
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/routing"
)

// Transport is an http.RoundTripper that carries requests to services of a mesh. It is made by NewTransport and safe for
// concurrent use.
type Transport struct {
	// Fallback, if not nil, makes the answer to a request whose call has failed for good, and for which no other service has
	// answered (zerohop.Policy.Fallback). It gets the request, which it must not change, and either the response that is a
	// failure, or the error. It returns nil if it has no answer either. It is not called for a caller who has gone away. It
	// must be set before the first request, and be safe for concurrent use.
	Fallback func(req *http.Request, resp *http.Response, err error) *http.Response

	// Handlers are endpoints in this process, by their address as the resolver has it ("host:port"): their requests go straight to
	// the handler, without a connection. Everything else is as for other endpoints: balancing, retries, limits and telemetry. The
	// address of an endpoint that is nowhere else can be any, such as "orders.invalid:1". The map must be set before the first
	// request and not be changed then.
	//
	// A handler sees a request as if it had come by HTTP/2: a copy, with a context that ends when the caller goes away and has
	// nothing else of the caller's. Answers can be streamed both ways, flushed, have trailers and informational ones before them;
	// a handler that panics breaks the answer off. Connections cannot be hijacked, so upgrades and CONNECT fail. There is no TLS,
	// whatever the scheme, and RemoteAddr is "@". Health checks go to the address.
	Handlers map[string]http.Handler

	mesh    *zerohop.Mesh
	control control // nil if all addresses may be connected to
	base    http.RoundTripper
	pool    *http.Transport // what the transports of nodes are cloned from; nil if base is of another type

	unrepeated, mirrored, unmirrored atomic.Uint64

	direct      bool // services are hosts that base finds itself, so requests keep their URL
	sockets     bool // connections may be to Unix sockets
	connections bool // hooks want to know of them

	mu    sync.Mutex // guards nodes
	nodes map[*loadbalance.Node]*endpoint

	connector connector
	warmed    map[string]struct{} // services that are connected to ahead of requests; guarded by mu
}

// NewTransport returns a Transport over base. nil means http.DefaultTransport. Like that it is made once and kept: the
// mesh holds its connections to an endpoint as long as there is that endpoint.
//
// If base is an *http.Transport, each endpoint gets a clone of it, so that connections, TLS sessions and limits such as
// MaxConnsPerHost are per endpoint. A Proxy of the base is asked for the address of the endpoint, and tunnels to it by
// CONNECT or SOCKS5, so that requests pass it as they are; http.ProxyFromEnvironment is not, for what it is not to be
// used for is known by names, which endpoints do not have. TLS verifies the name in the URL, the service, unless
// Policy.Connect or the TLSClientConfig of the base names another. Where the base sets no MaxResponseHeaderBytes, it is
// 1 MiB. Any other base gets requests with the address of the endpoint in the URL and the service in Host, and verifies
// what it will. So middleware for tracing, authentication and the like is better put around a Transport than under it.
//
// What zerohop.Config.Addresses refuses is not connected to, and the call fails with a *discovery.AddressError if there is no
// other endpoint. With the dialer of an *http.Transport that is known before the first packet, also where an endpoint is the
// name of a host, if the dialer looks names up with package net and hands on the context, as a net.Dialer does. A connection by
// another dialer is closed before anything is sent on it. What proxies look up themselves, and the names that go to any other
// base, cannot be checked: AddressPolicy.NoNames refuses names.
//
// Where zerohop.Config.Sockets allows it, connections to instances on the same host go to their Unix sockets, whatever dialer
// the base has, unless its Proxy has one for the endpoint, or, for https, it has a dialer of its own for TLS. What cannot be
// connected to is dialled as ever, within the same attempt.
//
// NewTransport panics if mesh is nil.
func NewTransport(mesh *zerohop.Mesh, base http.RoundTripper) *Transport {
	if mesh == nil {
		panic("httpmesh: NewTransport without a mesh")
	}
	if base == nil {
		base = http.DefaultTransport
	}
	t := &Transport{
		mesh: mesh, control: mesh.DialControl(), sockets: mesh.HasSockets(), connections: mesh.ObservesConnections(),
		base: base, nodes: map[*loadbalance.Node]*endpoint{},
	}
	t.pool, _ = base.(*http.Transport)
	return t
}

// RoundTrip sends a request to its service, if the host of its URL is one (see zerohop.Mesh.IsService), and else
// through the base transport. It obeys the contract of http.RoundTripper: the request is not changed and its body
// is always closed.
//
// The response is that of the first attempt that satisfied or else of the last one. If there is none, the error is
// a *zerohop.Error.
//
// Attempts after the first get the body of the request from its GetBody. Without that the first 64 KiB of it are kept
// if the call may be repeated, while it is sent as it comes. Once more was read, by however slow an attempt, no other is
// made; Stats counts such calls. Upgrades and CONNECT are sent once.
//
// The body of the response may pause for Policy.ReadTimeout at most while it is read. What Read returns then is a
// net.Error and an os.ErrDeadlineExceeded.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL == nil || !t.mesh.IsService(req.URL.Host) {
		return t.base.RoundTrip(req)
	}
	return t.call(req, req.URL.Host)
}

// call sends a request to a service.
func (t *Transport) call(req *http.Request, service string) (*http.Response, error) {
	x := newExchange(t, req)
	r := zerohop.Request{
		Request: routing.Request{
			Service: service, Method: req.Method, Path: pathOf(req.URL), Query: req.URL.RawQuery, Header: req.Header,
		},
		Protocol:   "http",
		Idempotent: idempotent(req),
		Stream:     x.protocol.stream(req),
	}
	if once(req) {
		r.Attempts, r.Idempotent = 1, false
	} else {
		x.share()
	}
	a, err := x.call.Run(req.Context(), t.mesh, &r, x)
	x.end()
	if t.direct && crowded(err) {
		return t.base.RoundTrip(req)
	}
	if !satisfied(a, err) {
		return x.fallBack(a, err, &r)
	}
	x.free(a)
	return x.deliver(a), nil
}

// Stats are counters of a Transport. They start at 0 and never fall.
type Stats struct {
	// Unrepeated is the number of calls that failed in a way worth repeating, but could not be for their body. It has no
	// GetBody, and more of it was read than is kept: 64 KiB if the call may be executed twice, else nothing; or it was
	// silent for too long when the next attempt needed it.
	Unrepeated uint64
	// Mirrored is the number of copies that were sent for routes with mirrors, and Unmirrored that of those that were wanted but
	// not sent: as many as may be were under way, the body was too large or not complete when the answer came, or it was a
	// stream, an upgrade or a file.
	Mirrored, Unmirrored uint64
}

// Stats returns the counters as they are now.
func (t *Transport) Stats() Stats {
	return Stats{Unrepeated: t.unrepeated.Load(), Mirrored: t.mirrored.Load(), Unmirrored: t.unmirrored.Load()}
}

// CloseIdleConnections closes the idle connections to endpoints and those of the base transport.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	for _, e := range t.nodes {
		e.closeIdle()
	}
	t.mu.Unlock()
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

package httpmesh

//lint:file-ignore SA1019 Dial and DialTLS are deprecated, but what a base dials with has to go on doing so.

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/samehost"
)

const (
	// idlePerNode is how many idle connections an endpoint may keep if the base transport does not say. net/http's
	// own default of two makes a busy client open a connection for most requests.
	idlePerNode = 100
	// A dead HTTP/2 connection is found by a ping after pingTime without a frame, if no answer comes within pingWait.
	pingTime = 15 * time.Second
	pingWait = 5 * time.Second
	// maxHeader is how long the head of an answer may be if the base transport does not say: net/http's own default
	// of 10 MiB lets an endpoint make its caller hold eight times as much.
	maxHeader = 1 << 20
	// maxPools is how many TLS names of an endpoint are kept connections for. They come from the URLs of callers.
	maxPools = 16
)

// connector makes connections as the base transport does. The clones of the base below have no connections of their
// own: they know how to make one.
type connector struct {
	once   sync.Once
	client *http.Transport // speaks what the base speaks
	http1  *http.Transport // never HTTP/2, which has no upgrades
	calm   *http.Transport // pings only if the base does
	shared settings        // of all pools
	name   string          // that TLS asks for; empty means the one in the URL
}

// kind is what the connections of a pool are for.
type kind uint8

const (
	anyKind kind = iota
	upgrade      // to another protocol, which is a thing of HTTP/1
	// Servers of gRPC take more than two pings within five minutes without a message for an attack, and close the
	// connection (gRFC A8): a stream may be silent for longer.
	forGRPC
)

func kindOf(p protocol, req *http.Request) kind {
	switch {
	case p == grpc:
		return forGRPC
	case req.URL.Scheme == "https" && upgrades(req):
		return upgrade
	}
	return anyKind
}

// settings of a pool.
type settings struct {
	client      *http.Transport
	addr        string
	control     control                       // nil if all addresses may be connected to
	socket      func() *samehost.Socket       // of the endpoint, for a new connection; nil if there are never any
	connected   func(zerohop.ConnectionEvent) // nil if nobody wants to know
	timeout     time.Duration
	idleTimeout time.Duration
	maxAge      time.Duration
	warm        int
	keep        int  // idle connections
	limit       int  // connections; 0 means none
	strict      bool // a full HTTP/2 connection is waited for
	once        bool // connections carry one request
	plainHTTP2  bool // without TLS
}

// init clones the base, as late as possible: net/http lets it be set up until its first request.
func (c *connector) init(base *http.Transport) {
	c.once.Do(func() {
		c.client, c.http1, c.calm = clone(base), clone(base), clone(base)
		if c.client.TLSClientConfig != nil {
			c.name = c.client.TLSClientConfig.ServerName
			for _, tr := range []*http.Transport{c.client, c.http1, c.calm} {
				tr.TLSClientConfig.ServerName = ""
			}
			c.http1.TLSClientConfig.NextProtos = nil
		}
		if c.client.HTTP2.SendPingTimeout == 0 {
			c.client.HTTP2.SendPingTimeout = pingTime
		}
		c.http1.Protocols, c.http1.ForceAttemptHTTP2 = new(http.Protocols), false
		c.http1.Protocols.SetHTTP1(true)
		c.shared = settings{
			idleTimeout: base.IdleConnTimeout, keep: base.MaxIdleConnsPerHost, limit: base.MaxConnsPerHost,
			once: base.DisableKeepAlives, strict: c.client.HTTP2.StrictMaxConcurrentRequests,
		}
		if c.shared.keep == 0 {
			c.shared.keep = max(base.MaxIdleConns, idlePerNode)
		}
		if p := base.Protocols; p != nil {
			c.shared.plainHTTP2 = p.UnencryptedHTTP2() && !p.HTTP1()
		}
	})
}

// clone copies a base such that it dials endpoints. Limits and times are those of the pools; net/http's own would
// count connections that are none of its.
func clone(base *http.Transport) *http.Transport {
	tr := base.Clone()
	tr.Proxy = nil
	tr.MaxConnsPerHost, tr.IdleConnTimeout = 0, 0
	if tr.MaxResponseHeaderBytes == 0 {
		tr.MaxResponseHeaderBytes = maxHeader
	}
	dial := either(tr.DialContext, tr.Dial)
	if dial == nil {
		// net/http speaks HTTP/2 by itself only with its own dialer. The one below stands for that, so it is
		// to go on if it did before, which the base shows once it was cloned.
		if _, ok := base.TLSNextProto["h2"]; ok {
			tr.ForceAttemptHTTP2 = true
		}
		dial = (&net.Dialer{KeepAlive: 30 * time.Second, ControlContext: controlled}).DialContext
	} else {
		dial = supervised(dial)
	}
	if _, ok := tr.TLSNextProto["h2"]; ok {
		// The base speaks HTTP/2 by a package of its own, which cannot make single connections.
		tr.TLSNextProto, tr.ForceAttemptHTTP2 = nil, true
	}
	tr.Dial, tr.DialContext = nil, toEndpoint(through(base, bySocket(dial)))
	if dialTLS := either(tr.DialTLSContext, tr.DialTLS); dialTLS != nil {
		tr.DialTLS, tr.DialTLSContext = nil, toEndpoint(supervised(dialTLS))
	}
	if tr.HTTP2 == nil {
		tr.HTTP2 = &http.HTTP2Config{}
	}
	if tr.HTTP2.PingTimeout == 0 {
		tr.HTTP2.PingTimeout = pingWait
	}
	return tr
}

// endpoint is what a Transport keeps for a node.
type endpoint struct {
	node  *loadbalance.Node
	addr  string
	pools atomic.Pointer[[]*pool] // few; a new list is stored for each change

	mu       sync.Mutex // guards released and writes of pools
	released bool
}

// endpoint returns that of a node.
//
// Connections to one node only are in its pools. net/http pools by the host in the URL, the service: with one pool
// for all nodes, a request would go out on a connection to whatever node was dialled before.
func (t *Transport) endpoint(n *loadbalance.Node) *endpoint {
	return n.Attach(t, func() (any, func()) {
		t.connector.init(t.pool)
		e := &endpoint{node: n, addr: n.Addr()}
		t.mu.Lock()
		t.nodes[n] = e
		t.mu.Unlock()
		return e, func() {
			t.mu.Lock()
			delete(t.nodes, n)
			t.mu.Unlock()
			e.release()
		}
	}).(*endpoint)
}

// poolOf returns the connections to the node of an attempt on which the request may go out.
func (t *Transport) poolOf(a *zerohop.Attempt, req *http.Request, x protocol) *pool {
	policy := &a.Policy().Connect
	p := t.poolAt(t.endpoint(a.Node()), a.Service(), policy, req.URL, kindOf(x, req))
	if policy.Warm > 0 && !p.noted.Load() {
		p.noted.Store(true)
		t.warm(a.Service(), *policy, *req.URL, p.kind)
	}
	return p
}

func (t *Transport) poolAt(e *endpoint, service string, policy *zerohop.Connect, u *url.URL, k kind) *pool {
	name := "endpoint" // without TLS it means nothing
	if u.Scheme == "https" {
		if name = policy.ServerName; name == "" {
			name = t.connector.name
		}
		if name == "" {
			name = u.Hostname()
		}
	}
	if p := e.find(u.Scheme, name, k); p != nil {
		return p
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if p := e.find(u.Scheme, name, k); p != nil {
		return p
	}
	p := &pool{settings: t.connector.shared, scheme: u.Scheme, name: name, kind: k, released: e.released}
	p.multi = p.plainHTTP2
	p.client, p.addr, p.timeout, p.maxAge = t.connector.client, e.addr, policy.Timeout, policy.MaxAge
	p.control = t.control
	if t.sockets {
		p.socket = func() *samehost.Socket { return t.mesh.Socket(service, e.node) }
	}
	if t.connections {
		p.connected = func(ev zerohop.ConnectionEvent) { t.mesh.Connected(service, ev) }
	}
	switch k {
	case upgrade:
		p.client = t.connector.http1
	case forGRPC:
		p.client = t.connector.calm
	}
	if k != upgrade {
		p.warm = max(0, min(policy.Warm, p.keep))
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return p // net/http is to say that it cannot do that
	}
	var list []*pool
	if old := e.pools.Load(); old != nil {
		list = slices.Clone(*old)
	}
	if len(list) == maxPools {
		list[0].release()
		list = list[1:]
	}
	list = append(list, p)
	e.pools.Store(&list)
	p.mu.Lock()
	p.warmUp(time.Now())
	p.mu.Unlock()
	return p
}

func (e *endpoint) find(scheme, name string, k kind) *pool {
	if list := e.pools.Load(); list != nil {
		for _, p := range *list {
			if p.scheme == scheme && p.name == name && p.kind == k {
				return p
			}
		}
	}
	return nil
}

// release is called when the node has left the set, and perhaps again later.
func (e *endpoint) release() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.released = true
	if list := e.pools.Load(); list != nil {
		for _, p := range *list {
			p.release()
		}
	}
}

func (e *endpoint) closeIdle() {
	if list := e.pools.Load(); list != nil {
		for _, p := range *list {
			p.CloseIdleConnections()
		}
	}
}

// upgrades reports whether the request asks for another protocol on its connection, which is a thing of HTTP/1.
func upgrades(req *http.Request) bool {
	return len(req.Header["Upgrade"]) > 0 && slices.ContainsFunc(req.Header["Connection"], func(v string) bool {
		return strings.Contains(strings.ToLower(v), "upgrade")
	})
}

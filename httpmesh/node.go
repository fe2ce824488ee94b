package httpmesh

//lint:file-ignore SA1019 Dial and DialTLS are deprecated, but what a base dials with has to go on doing so.

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/loadbalance"
)

// idlePerNode is how many idle connections an endpoint may keep if the base transport does not say. net/http's
// own default of two makes a busy client open a connection for most requests.
const idlePerNode = 100

// transport returns the transport of a node.
//
// Connections of one node only are in its pool. net/http pools by the host in the URL, the service: with one pool
// for all nodes, a request would go out on a connection to whatever node was dialled before.
func (t *Transport) transport(n *loadbalance.Node, connectTimeout time.Duration) *http.Transport {
	return n.Attach(t, func() (any, func()) {
		tr := t.dedicated(n.Addr(), connectTimeout)
		t.mu.Lock()
		t.nodes[n] = tr
		t.mu.Unlock()
		return tr, func() {
			t.mu.Lock()
			delete(t.nodes, n)
			t.mu.Unlock()
			tr.CloseIdleConnections()
		}
	}).(*http.Transport)
}

// dedicated clones the base transport for one address.
func (t *Transport) dedicated(addr string, connectTimeout time.Duration) *http.Transport {
	tr := t.pool.Clone()
	tr.Proxy = nil
	if tr.MaxIdleConnsPerHost == 0 {
		tr.MaxIdleConnsPerHost = max(tr.MaxIdleConns, idlePerNode)
	}
	tr.MaxIdleConns = 0 // one host only: the limit above is the limit
	dial := either(tr.DialContext, tr.Dial)
	if dial == nil {
		// net/http speaks HTTP/2 by itself only with its own dialer. The one below stands for that, so it is
		// to go on if it did before, which the base shows once it was cloned.
		if _, ok := t.pool.TLSNextProto["h2"]; ok {
			tr.ForceAttemptHTTP2 = true
		}
		dial = (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext
	}
	tr.Dial, tr.DialContext = nil, to(addr, dial, connectTimeout)
	if dialTLS := either(tr.DialTLSContext, tr.DialTLS); dialTLS != nil {
		tr.DialTLS, tr.DialTLSContext = nil, to(addr, dialTLS, connectTimeout)
	}
	return tr
}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// either returns the dialer that net/http would use: the one with a context if there is one. nil means neither.
func either(dial dialFunc, old func(network, addr string) (net.Conn, error)) dialFunc {
	if dial != nil || old == nil {
		return dial
	}
	return func(_ context.Context, network, addr string) (net.Conn, error) { return old(network, addr) }
}

// to makes a dialer connect to the given address, whatever it is asked for, and within the timeout. Its errors say
// that no connection was made, so that nothing was sent.
func to(addr string, dial dialFunc, timeout time.Duration) dialFunc {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		if timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		conn, err := dial(ctx, network, addr)
		if err != nil && !zerohop.DialFailed(err) {
			err = &net.OpError{Op: "dial", Net: network, Err: err}
		}
		return conn, err
	}
}

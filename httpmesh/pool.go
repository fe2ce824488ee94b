package httpmesh

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

var errCanceled = errors.New("httpmesh: request canceled while waiting for a connection")

// maxUnusable is how many connections a request tries that turn out to take no request. The reason may be the server.
const maxUnusable = 3

// pool holds the connections to an endpoint that differ in nothing: scheme and TLS name. It takes the place of that of
// http.Transport, which sends requests again by itself, makes them wait after REFUSED_STREAM, and knows no age.
//
// A request takes the connection that was used last, or waits for one that gets free or is dialled for it. Dials go on
// if their request is given up.
type pool struct {
	settings
	scheme string
	name   string // what TLS asks for and verifies
	kind   kind
	noted  atomic.Bool // the other endpoints of the service are warm

	mu       sync.Mutex // guards what follows; methods of connections that run hooks are not called under it
	idle     []*conn    // HTTP/1, the last one was used last
	shared   []*conn    // HTTP/2
	waiters  []*waiter  // the first one came first
	dials    map[*dialing]struct{}
	live     int  // dials and connections, without shared ones that are retired
	multi    bool // the last dial led to HTTP/2
	usual    int  // requests that the last shared connection took at a time, 0 if not known
	released bool // the endpoint has left: nothing is kept

	timer  *time.Timer // of sweep
	wake   time.Time   // when it fires; zero if it does not
	warmAt time.Time   // when the next round of warming may begin
	cold   int         // what is left of the present round
}

// waiter is a request without a connection.
type waiter struct {
	ctx    context.Context
	dialed bool       // a dial began on its behalf
	ready  chan grant // of one, so that the pool never waits
}

// grant is what a waiter gets: a connection or why there is none.
type grant struct {
	conn  *conn
	fresh bool
	err   error
}

// send sends the request and waits for the head of the answer. It sends a request once: a connection is replaced by
// another one only if it took nothing of it. Errors close the body of the request, perhaps not for the first time.
func (p *pool) send(req *http.Request) (resp *http.Response, t trip, err error) {
	for n := 1; ; n++ {
		begun := time.Now()
		c, fresh, err := p.get(req, begun)
		if err != nil {
			closeBody(req)
			return nil, trip{unsent: true}, err
		}
		if resp, t, err = c.roundTrip(req, !fresh, begun); err == nil {
			return resp, t, nil
		}
		if hasBody(req) || n == maxUnusable || ended(req) || !t.unsent || !unusable(err) && !t.stale {
			closeBody(req)
			return nil, t, err
		}
	}
}

func hasBody(req *http.Request) bool { return req.Body != nil && req.Body != http.NoBody }

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

// get returns a connection for a request, with a place on it if it is shared.
func (p *pool) get(req *http.Request, now time.Time) (c *conn, fresh bool, err error) {
	if trace := httptrace.ContextClientTrace(req.Context()); trace != nil && trace.GetConn != nil {
		trace.GetConn(p.addr)
	}
	for failed := 0; ; {
		if ended(req) {
			return nil, false, cause(req)
		}
		p.mu.Lock()
		if c, fresh = p.take(now), false; c != nil {
			p.mu.Unlock()
		} else if c, fresh, err = p.wait(req); err != nil {
			return nil, false, err
		}
		if !c.shared && (fresh || c.drained()) || c.shared && c.usable() {
			return c, fresh, nil
		}
		if !c.shared {
			p.mu.Lock()
			p.drop(c)
			p.mu.Unlock()
			continue
		}
		unused := fresh && c.cc.InFlight() == 0
		p.put(c)
		if unused {
			if failed++; failed == maxUnusable {
				return nil, false, errors.New("httpmesh: endpoint takes no requests on new connections")
			}
		}
	}
}

func cause(req *http.Request) error {
	if err := context.Cause(req.Context()); err != nil {
		return err
	}
	return errCanceled
}

// take returns the connection that was used last, or nil if none is free. p.mu is held.
func (p *pool) take(now time.Time) *conn {
	for n := len(p.idle) - 1; n >= 0; n-- {
		c := p.idle[n]
		p.idle[n] = nil
		p.idle = p.idle[:n]
		if !p.overdue(c, now) {
			return c
		}
		p.drop(c)
	}
	for i := 0; i < len(p.shared); {
		switch c := p.shared[i]; {
		case c.expired(now):
			p.retireLocked(c) // takes it off the list
		case c.vacant():
			c.streams++
			return c
		default:
			i++
		}
	}
	return nil
}

// wait queues the request until it is given a connection. p.mu is held, and released.
func (p *pool) wait(req *http.Request) (*conn, bool, error) {
	w := &waiter{ctx: req.Context(), ready: make(chan grant, 1)}
	p.waiters = append(p.waiters, w)
	p.dialMore()
	p.mu.Unlock()
	select {
	case g := <-w.ready:
		return g.conn, g.fresh, g.err
	case <-w.ctx.Done():
	//lint:ignore SA1019 http.Client uses it
	case <-req.Cancel:
	}
	p.mu.Lock()
	if i := slices.Index(p.waiters, w); i >= 0 {
		p.waiters = slices.Delete(p.waiters, i, i+1)
		if p.released && len(p.waiters) == 0 {
			p.hangUp()
		}
	}
	p.mu.Unlock()
	select {
	case g := <-w.ready:
		if g.conn != nil {
			p.put(g.conn)
		}
	default:
	}
	return nil, false, cause(req)
}

// grant gives the first waiter its connection, or the error of a dial. p.mu is held, and there is a waiter.
func (p *pool) grant(g grant) {
	w := p.waiters[0]
	p.waiters = slices.Delete(p.waiters, 0, 1)
	if g.conn != nil && g.conn.shared {
		g.conn.streams++
	}
	w.ready <- g
}

// put takes back a connection from a request.
func (p *pool) put(c *conn) {
	if c.shared {
		p.putShared(c)
		if c.full.Load() { // whoever was given the place may not have used it
			c.changed(c.cc)
		}
		return
	}
	now, free := time.Now(), c.cc.Available() > 0
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !free || c.expired(now):
		p.drop(c)
	case len(p.waiters) > 0:
		p.grant(grant{conn: c})
	case p.released || len(p.idle) >= p.keep:
		p.drop(c)
	default:
		c.idleAt = now.Round(0)
		p.idle = append(p.idle, c)
		p.arm(p.deadline(c, now), now)
	}
}

func (p *pool) putShared(c *conn) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	c.streams--
	switch {
	case c.retired:
		if c.streams == 0 {
			c.close()
		}
	case c.expired(now):
		p.retireLocked(c)
	case len(p.waiters) > 0 && c.vacant():
		p.grant(grant{conn: c})
	case c.streams > 0:
	case p.released || p.keep <= 0:
		p.retireLocked(c)
	default:
		c.idleAt = now.Round(0)
		p.arm(p.deadline(c, now), now)
	}
}

// forget counts one connection less: it is closed, or belongs to somebody else now.
func (p *pool) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.live--
	p.dialMore()
	p.warmUp(time.Now())
}

// drop closes an HTTP/1 connection, which is in no list any more. p.mu is held.
func (p *pool) drop(c *conn) {
	go func() { // until then it counts: the server is to see no more connections than it may
		c.cc.Close()
		p.forget()
	}()
}

// reopen says that a shared connection takes requests again, n of them.
func (p *pool) reopen(c *conn, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.retired {
		return
	}
	for ; n > 0 && len(p.waiters) > 0 && c.streams < c.limit(); n-- {
		p.grant(grant{conn: c})
	}
	if len(p.waiters) == 0 { // else the next place is for them, too
		c.full.Store(false)
	}
}

// settled says that it is known how many requests a shared connection takes.
func (p *pool) settled(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.usual = c.limit()
	for !c.retired && len(p.waiters) > 0 && c.vacant() {
		p.grant(grant{conn: c})
	}
	p.dialMore()
}

// retire takes a shared connection out of use: it is closed when its requests are over.
func (p *pool) retire(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retireLocked(c)
}

func (p *pool) retireLocked(c *conn) {
	i := slices.Index(p.shared, c)
	if i < 0 {
		return
	}
	p.shared = slices.Delete(p.shared, i, i+1)
	c.retired = true
	if c.streams == 0 {
		c.close()
	}
	p.live--
	p.dialMore()
	p.warmUp(time.Now())
}

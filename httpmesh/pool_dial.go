package httpmesh

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http/httptrace"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/samehost"
)

// dialing is an attempt to connect. The dialer of the transport finds it in its context.
type dialing struct {
	addr    string
	scheme  string
	control control // nil if all addresses may be connected to
	cancel  context.CancelFunc
	traffic *traffic
	socket  *samehost.Socket // of the endpoint, to be tried first; nil if there is none
	local   bool             // the connection is to the socket
	missed  error            // why it is not

	mu      sync.Mutex // guards what follows
	raw     net.Conn
	aborted bool
}

type dialKey struct{}

// open calls the dialer, if it may.
func (d *dialing) open(ctx context.Context, dial dialFunc, network string) (net.Conn, error) {
	if d.control != nil {
		if literal(d.addr) { // whatever the dialer makes of it
			if err := d.control(ctx, network, d.addr, nil); err != nil {
				return nil, err
			}
		}
		ctx = context.WithValue(ctx, controlKey{}, d.control)
	}
	return dial(ctx, network, d.addr)
}

// opened takes note of the connection below TLS.
func (d *dialing) opened(conn net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.raw = conn
	if d.aborted {
		conn.Close()
	}
}

// abort closes what was opened. net/http writes the first frames of HTTP/2 whether the context has ended or not.
func (d *dialing) abort() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.aborted = true
	if d.raw != nil {
		d.raw.Close()
	}
}

// anew makes the dialing one to the address alone.
func (d *dialing) anew() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.raw, d.aborted, d.traffic, d.socket, d.local = nil, false, nil, nil, false
}

// event returns what the dialing has come to.
func (d *dialing) event(err error) zerohop.ConnectionEvent {
	ev := zerohop.ConnectionEvent{Addr: d.addr, Fallback: samehost.ReasonOf(d.missed), Err: err}
	if d.local {
		ev.Network, ev.Fallback = zerohop.NetworkUnix, ""
	}
	return ev
}

// dialMore starts the dials that waiters lack. While the protocol is not known, each has its own; once it was HTTP/2,
// they wait for one that can carry them all. p.mu is held.
func (p *pool) dialMore() {
	for len(p.dials) < len(p.waiters) && (p.limit <= 0 || p.live < p.limit) && !(p.multi && !p.once &&
		(len(p.dials) > 0 || p.strict && len(p.shared) > 0 || slices.ContainsFunc(p.shared, (*conn).settling))) {
		var w *waiter
		for i := len(p.waiters) - 1; i >= 0 && w == nil; i-- { // the last ones came since
			if !p.waiters[i].dialed {
				w = p.waiters[i]
			}
		}
		p.dial(w)
	}
}

// dial starts a dial on behalf of a waiter, if not nil, but not only for it. p.mu is held.
func (p *pool) dial(w *waiter) {
	ctx := context.Background()
	if w != nil {
		w.dialed = true
		ctx = context.WithoutCancel(w.ctx) // what it is traced with is in there
	}
	d := &dialing{addr: p.addr, scheme: p.scheme, control: p.control}
	if p.timeout > 0 {
		ctx, d.cancel = context.WithTimeout(ctx, p.timeout)
	} else {
		ctx, d.cancel = context.WithCancel(ctx)
	}
	if p.dials == nil {
		p.dials = map[*dialing]struct{}{}
	}
	p.dials[d] = struct{}{}
	p.live++
	go func() { // until the context ends, which hangUp sees to
		if p.socket != nil {
			d.socket = p.socket() // not under p.mu, as it takes locks of the mesh and of the node
		}
		c, err := p.connect(ctx, d)
		if p.connected != nil && !errors.Is(ctx.Err(), context.Canceled) {
			p.connected(d.event(err))
		}
		d.cancel()
		p.mu.Lock()
		defer p.mu.Unlock()
		_, wanted := p.dials[d]
		delete(p.dials, d)
		switch {
		case err == nil:
			p.add(c)
		case !wanted:
			p.live--
		default:
			p.live--
			p.multi = false // the waiters are not to fail one after the other
			p.cold = 0
			if len(p.waiters) > 0 {
				p.grant(grant{err: err})
			}
		}
		p.dialMore()
		p.warmUp(time.Now())
	}()
}

// hangUp gives up all dials: who comes now has one of his own. p.mu is held.
func (p *pool) hangUp() {
	for d := range p.dials {
		d.cancel()
	}
	clear(p.dials)
}

// connect makes a connection. All its errors are from before a request.
func (p *pool) connect(ctx context.Context, d *dialing) (*conn, error) {
	c, err := p.shake(ctx, d)
	if err == nil || !d.local || errors.Is(ctx.Err(), context.Canceled) {
		return c, err
	}
	d.socket.Report(err) // whoever listens there may not be the endpoint, or not speak TLS
	if ctx.Err() == nil {
		_, d.missed = d.socket.Failed()
		d.anew()
		c, err = p.shake(ctx, d)
	}
	return c, err
}

// shake opens a connection and has net/http shake hands over it.
func (p *pool) shake(ctx context.Context, d *dialing) (*conn, error) {
	begun := time.Now()
	var said int64
	protocol := "http/1.1"
	if p.plainHTTP2 {
		protocol = "h2"
	}
	ctx = context.WithValue(ctx, dialKey{}, d)
	if p.scheme == "https" {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
			TLSHandshakeDone: func(s tls.ConnectionState, _ error) {
				if protocol = s.NegotiatedProtocol; d.traffic != nil {
					said = d.traffic.read.Load()
				}
			},
		})
	}
	stop := context.AfterFunc(ctx, d.abort)
	cc, err := p.client.NewClientConn(ctx, p.scheme, p.authority())
	if !stop() && err == nil {
		cc.Close()
		err = ctx.Err()
	}
	if err != nil {
		d.abort()
		if ctx.Err() != nil { // not that of a caller, whose deadline has another error
			err = &net.OpError{Op: "dial", Net: "tcp", Err: connectTimeoutError(p.timeout)}
		}
		return nil, err
	}
	now := time.Now()
	c := &conn{pool: p, cc: cc, raw: d.raw, traffic: d.traffic, shared: protocol == "h2", connect: now.Sub(begun)}
	if p.maxAge > 0 {
		c.expires = now.Add(p.maxAge - rand.N(p.maxAge/10+1))
	}
	c.idleAt = now.Round(0)
	c.mute.Store(-1)
	if d.local {
		c.socket = d.socket
	}
	if c.shared {
		c.said = said
		cc.SetStateHook(c.changed)
	}
	return c, nil
}

// connectTimeoutError says that Policy.Connect bounds how long it may take to connect.
type connectTimeoutError time.Duration

func (e connectTimeoutError) Error() string {
	return fmt.Sprintf("no connection within %v", time.Duration(e))
}

func (connectTimeoutError) Timeout() bool { return true }

// Unwrap makes the error what that of a dialer would be.
func (connectTimeoutError) Unwrap() error { return os.ErrDeadlineExceeded }

// authority is what the connection is asked of net/http for: TLS verifies its host; the dialer goes to the endpoint.
func (p *pool) authority() string {
	port := "80"
	if p.scheme == "https" {
		port = "443"
	}
	return net.JoinHostPort(p.name, port)
}

// add puts a new connection to use. p.mu is held.
func (p *pool) add(c *conn) {
	now := time.Now()
	p.multi = c.shared
	switch {
	case !c.shared && len(p.waiters) > 0:
		p.grant(grant{conn: c, fresh: true})
	case !c.shared && (p.released || len(p.idle) >= p.keep):
		p.drop(c)
	case !c.shared:
		p.idle = append(p.idle, c)
		p.arm(p.deadline(c, now), now)
	default:
		// One that was dialled before the protocol was known is of no use if there is another one.
		spare := !p.once && slices.ContainsFunc(p.shared, (*conn).settling) ||
			len(p.waiters) == 0 && (p.released || p.keep <= 0 || slices.ContainsFunc(p.shared, (*conn).vacant))
		c.places = p.usual
		p.shared = append(p.shared, c)
		for !spare && len(p.waiters) > 0 && c.vacant() {
			p.grant(grant{conn: c, fresh: true})
			if p.once {
				break
			}
		}
		switch {
		case spare || p.once:
			p.retireLocked(c)
			return
		case c.streams == 0:
			p.arm(p.deadline(c, now), now)
		}
		pause := c.connect
		if c.traffic != nil { // it can be seen whether the server has said something, which takes it one of several round trips
			pause /= 4
		}
		c.listen(max(pause, time.Millisecond))
	}
}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// either returns the dialer that net/http would use: the one with a context if there is one. nil means neither.
func either(dial dialFunc, old func(network, addr string) (net.Conn, error)) dialFunc {
	if dial != nil || old == nil {
		return dial
	}
	return func(_ context.Context, network, addr string) (net.Conn, error) { return old(network, addr) }
}

// toEndpoint makes a dialer connect to the endpoint that the pool wants, whatever address net/http asks for. Its errors
// say that no connection was made, so that nothing was sent. A connection is counted if it is not one of TLS, which
// net/http must recognise.
func toEndpoint(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		d := ctx.Value(dialKey{}).(*dialing)
		conn, err := d.open(ctx, dial, network)
		if err != nil {
			if !zerohop.DialFailed(err) {
				err = &net.OpError{Op: "dial", Net: network, Err: err}
			}
			return nil, err
		}
		if _, ok := conn.(*tls.Conn); !ok {
			d.traffic = &traffic{}
			conn = counted(conn, d.traffic)
		}
		d.opened(conn)
		return conn, nil
	}
}

package httpmesh

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/zerohop/zerohop/samehost"
)

// conn is a connection to an endpoint. net/http speaks over it and never sends a request twice.
type conn struct {
	pool    *pool
	cc      *http.ClientConn
	raw     net.Conn
	socket  *samehost.Socket // nil if it is not to one
	traffic *traffic         // nil if raw is what a TLS dialer of the user made
	shared  bool             // HTTP/2: it carries many requests at a time
	expires time.Time        // it gets no request after that; zero means never
	connect time.Duration    // how long it took to connect
	said    int64            // bytes that the server of a shared connection had sent when it was new
	places  int              // requests that a shared connection gets before it is known how many it takes; 0 means one

	idleAt  time.Time // guarded by pool.mu, as are those below; by the wall clock
	streams int       // requests on a shared connection
	retired bool      // a shared connection is not in the pool any more

	// The hook of a shared connection reads what follows while net/http may hold locks of its own.
	full atomic.Bool  // it takes no request before the hook says so
	most atomic.Int64 // requests it takes at a time, 0 if not known yet
	mute atomic.Int64 // bytes it had read when a request was given up without an answer
}

// trip is what became of a request on its connection.
type trip struct {
	conn *conn
	// reused says that the connection was not made for the request.
	reused bool
	// unsent says that the server provably has not begun to work on the request, which failed.
	unsent bool
	// stale says that a reused connection broke before any of the answer had come. Servers close idle connections,
	// which says nothing against the endpoint.
	stale bool
	// local says that the connection is to a Unix socket.
	local bool
}

// end is to be called once, when the body of the response was read to its end or closed: the connection is free for
// the next request, or closed if it is of no more use.
func (t trip) end() {
	if t.conn != nil {
		t.conn.pool.put(t.conn)
	}
}

// shun says that the connection is not for requests of this kind: it gets no other one. It is called before end.
func (t trip) shun() {
	switch c := t.conn; {
	case c == nil:
	case c.shared:
		c.pool.retire(c)
	default:
		c.expires = time.Unix(1, 0)
	}
}

// roundTrip sends the request. Its error says that the connection was given back.
//
// net/http derives a context from that of the request which it leaves alone after an error: the engine cancels the
// context of every attempt that failed.
func (c *conn) roundTrip(req *http.Request, reused bool, begun time.Time) (*http.Response, trip, error) {
	if trace := httptrace.ContextClientTrace(req.Context()); trace != nil && trace.GotConn != nil {
		info := httptrace.GotConnInfo{Conn: c.raw, Reused: reused, WasIdle: reused && !c.shared}
		if info.WasIdle {
			info.IdleTime = max(begun.Round(0).Sub(c.idleAt), 0)
		}
		trace.GotConn(info)
	}
	var read, written int64
	if c.traffic != nil {
		read, written = c.traffic.read.Load(), c.traffic.written.Load()
	}
	resp, err := c.cc.RoundTrip(req)
	local := c.socket != nil
	if err == nil {
		if local && !reused {
			c.socket.Report(nil)
		}
		if _, tunnel := resp.Body.(io.Writer); tunnel && !c.shared {
			c.pool.forget() // the caller owns it
			return resp, trip{reused: reused, local: local}, nil
		}
		if c.shared && c.most.Load() == 0 {
			c.learn()
		}
		return resp, trip{conn: c, reused: reused, local: local}, nil
	}
	var (
		gaveUp   = ended(req)
		timeout  = timedOut(err)
		silent   = c.traffic != nil && c.traffic.read.Load() == read
		unspoken = c.traffic != nil && c.traffic.written.Load() == written && !(c.shared && gaveUp)
		t        = trip{reused: reused, unsent: unspoken || !gaveUp && notBegun(err), local: local}
	)
	if local && !reused && silent && !gaveUp && !timeout {
		c.socket.Report(err) // before anything was said; by TCP it may go better
	}
	t.stale = reused && !gaveUp && !timeout && c.cc.Err() != nil && (c.shared || silent || noAnswer(err))
	if c.shared && silent && (gaveUp || timeout) && time.Since(begun) >= c.connect && c.mute.Swap(read) == read {
		c.pool.retire(c)
	}
	c.pool.put(c)
	return nil, t, err
}

// drained reports whether all that has come over an idle HTTP/1 connection was read as an answer. What came after one
// would be taken for the next one if that request was quick enough.
//
// net/http reads from the connection again once the answer was read to its end, unless it has more of it already: then
// it closes the connection. Either happens at once, unless its goroutine has to wait for a processor.
func (c *conn) drained() bool {
	if c.traffic == nil {
		return true
	}
	for n := range 100 {
		if c.traffic.reading.Load() {
			return true
		}
		if c.cc.Err() != nil {
			return false
		}
		if n < 20 {
			runtime.Gosched()
		} else {
			time.Sleep(50 * time.Microsecond) // at most 4 ms in all: what is new by then costs less than more patience
		}
	}
	return false
}

// usable reports whether a shared connection takes a request now. If it does not, the reason is found out.
//
// net/http could reserve places, but waits for ever when the server takes fewer requests than were reserved, which
// a server may say at any time. So the pool counts them.
func (c *conn) usable() bool {
	if c.cc.Available() > 0 {
		return true
	}
	c.full.Store(true)
	c.changed(c.cc)
	return false
}

// limit returns how many requests a shared connection takes at a time.
func (c *conn) limit() int {
	if n := int(c.most.Load()); n > 0 {
		return n
	}
	return max(c.places, 1)
}

// vacant reports whether a shared connection has a place. pool.mu is held.
func (c *conn) vacant() bool { return !c.full.Load() && c.streams < c.limit() }

// settling reports whether a shared connection has one place until its server has said how many there are.
func (c *conn) settling() bool { return c.shared && c.places == 0 && c.most.Load() == 0 }

// settle finds out how many requests a shared connection takes at a time. Before its server has said so there is only
// a guess of net/http, and while it is full nothing is known.
func (c *conn) settle() {
	used := c.cc.InFlight()
	if free := c.cc.Available(); free > 0 && used == c.cc.InFlight() {
		c.most.Store(int64(used + free))
	}
}

// listen waits for the first word of the server on a shared connection, which is how many requests it takes: what
// exceeds that is refused. net/http has understood it when it reads on. listen gives up after a second or so.
func (c *conn) listen(pause time.Duration) {
	time.AfterFunc(pause, func() {
		switch t := c.traffic; {
		case c.most.Load() > 0: // an answer came
		case t != nil && (t.read.Load() == c.said || !t.reading.Load()) && pause < time.Second:
			c.listen(2 * pause)
		default:
			c.learn()
		}
	})
}

// learn lets a shared connection have as many requests as it takes.
func (c *conn) learn() {
	if c.settle(); c.most.CompareAndSwap(0, int64(max(c.cc.InFlight(), 1))) {
		c.full.Store(true) // the hook will know more
	}
	c.pool.settled(c)
	c.changed(c.cc)
}

// changed is the hook of a shared connection. One that takes no requests is full, and left alone until it is not,
// or the server has said that it will go away: then it takes none though fewer are under way than it took before.
func (c *conn) changed(cc *http.ClientConn) {
	switch {
	case cc.Err() != nil:
		c.pool.retire(c)
	case !c.full.Load():
	default:
		if n := cc.Available(); n > 0 {
			c.settle()
			c.pool.reopen(c, n)
		} else if used := int64(cc.InFlight()); (used == 0 || used < c.most.Load()) && cc.Available() == 0 {
			c.pool.retire(c)
		}
	}
}

// close closes the connection in the background: TLS says good-bye, to a peer that may not listen.
func (c *conn) close() {
	go c.cc.Close()
}

// ended reports whether the caller has given the request up.
func ended(req *http.Request) bool {
	select {
	//lint:ignore SA1019 http.Client uses it
	case <-req.Cancel:
		return true
	default:
		return req.Context().Err() != nil
	}
}

func timedOut(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// Errors of net/http that are not exported. Tests hold them against the real ones.
const (
	refusedStream = 7 // of HTTP/2 (RFC 9113, section 7)

	errGoAway         = "http2: Transport received Server's graceful shutdown GOAWAY"
	errGoAwayFirst    = "http2: Transport received GOAWAY from server ErrCode:"
	errUnusable       = "http2: client conn not usable"
	errNotEstablished = "http2: client conn could not be established"
	errNothingWritten = "http.nothingWrittenError"
	errClosedIdle     = "http: server closed idle connection"
	errReadFailed     = "net/http: Transport failed to read from server: "
)

// streamError takes the shape of net/http's http2StreamError, which fits itself into it.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (streamError) Error() string { return "" }

// notBegun reports whether the error says that the server did not begin to work on the request: it refused the
// stream, said that it went away before it, or nothing could be written.
func notBegun(err error) bool {
	var stream streamError
	return errors.As(err, &stream) && stream.Code == refusedStream || unusable(err) ||
		err.Error() == errGoAway || strings.HasPrefix(err.Error(), errGoAwayFirst)
}

// unusable reports whether the error says that the connection took no request any more, so that nothing was written.
func unusable(err error) bool {
	s := err.Error()
	return s == errUnusable || s == errNotEstablished || reflect.TypeOf(err).String() == errNothingWritten
}

// noAnswer reports whether the error says that an HTTP/1 connection broke before the first byte of the answer.
func noAnswer(err error) bool {
	s := err.Error()
	return s == errClosedIdle || strings.HasPrefix(s, errReadFailed) || reflect.TypeOf(err).String() == errNothingWritten
}

package consul

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"sync"
	"time"
)

const (
	// idleTime is how long a connection waits for its next request. A watch asks again at once, or after pollInterval.
	idleTime = 30 * time.Second
	// resendTime is how long after it was sent a request may be sent again. That the agent had closed an idle connection shows
	// at once. One that has held a query and breaks it may come back with other data, whose lower index would let the same
	// query wait in vain.
	resendTime = time.Second
	// maxHeader bounds the header of an answer.
	maxHeader = 64 << 10
	// maxInterim bounds how many answers of status 1xx may come before one.
	maxInterim = 5
)

// direct carries GET requests over HTTP/1.1 without a goroutine of its own: the caller writes and reads. A watch has one
// request open all the time, for which http.Transport would hold two goroutines. Everything else is up to that.
type direct struct {
	*http.Transport
	dial func(ctx context.Context, network, addr string) (net.Conn, error)

	mu   sync.Mutex // guards idle
	idle []*lane
}

// lane is a connection.
type lane struct {
	net.Conn
	addr  string
	read  *bufio.Reader
	limit io.LimitedReader // below read
	timer *time.Timer      // ends it while it is idle
}

func newDirect(t *http.Transport) *direct {
	d := &direct{Transport: t, dial: t.DialContext}
	if d.dial == nil {
		d.dial = new(net.Dialer).DialContext
	}
	return d
}

// RoundTrip implements http.RoundTripper.
func (d *direct) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodGet || req.URL.Scheme != "http" || req.Body != nil && req.Body != http.NoBody || d.proxied(req) {
		return d.Transport.RoundTrip(req)
	}
	ctx, addr := req.Context(), net.JoinHostPort(req.URL.Hostname(), cmp.Or(req.URL.Port(), "80"))
	if trace := httptrace.ContextClientTrace(ctx); trace != nil {
		if trace.GetConn != nil {
			trace.GetConn(addr)
		}
		for key, values := range req.Header {
			if trace.WroteHeaderField != nil {
				trace.WroteHeaderField(key, values)
			}
		}
	}
	for {
		l, reused := d.take(addr)
		if !reused {
			conn, err := d.dial(ctx, "tcp", addr)
			if err != nil {
				return nil, err
			}
			l = &lane{Conn: conn, addr: addr, limit: io.LimitedReader{R: conn}}
			l.read = bufio.NewReader(&l.limit)
		}
		begun := time.Now()
		resp, err := d.exchange(l, req)
		if err == nil {
			return resp, nil
		}
		l.Close()
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !reused || time.Since(begun) > resendTime:
			return nil, err
		}
		// The agent has closed it meanwhile. A GET may be sent again.
	}
}

// proxied reports whether a proxy is set for req, or cannot be found out.
func (d *direct) proxied(req *http.Request) bool {
	if d.Proxy == nil {
		return false
	}
	proxy, err := d.Proxy(req)
	return proxy != nil || err != nil
}

// exchange sends req and reads the header of the answer.
func (d *direct) exchange(l *lane, req *http.Request) (*http.Response, error) {
	// A deadline in the past ends the calls of Read and Write that are at work.
	stop := context.AfterFunc(req.Context(), func() { _ = l.SetDeadline(time.Now()) })
	resp, err := l.exchange(req)
	if err != nil {
		stop()
		return nil, err
	}
	l.limit.N = 1<<63 - 1 // guard bounds the body
	b := &laneBody{ReadCloser: resp.Body, direct: d, lane: l, stop: stop, ctx: req.Context(), keep: !resp.Close}
	if resp.Body == http.NoBody {
		b.done(true)
	}
	resp.Body = b
	return resp, nil
}

func (l *lane) exchange(req *http.Request) (*http.Response, error) {
	if err := req.Write(l); err != nil {
		return nil, err
	}
	for range maxInterim {
		l.limit.N = maxHeader
		resp, err := http.ReadResponse(l.read, req)
		if err != nil {
			if l.limit.N == 0 {
				err = fmt.Errorf("the header of the answer is larger than %d bytes", maxHeader)
			}
			return nil, err
		}
		if resp.StatusCode >= http.StatusOK || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, nil
		}
	}
	return nil, errors.New("no answer after five of status 1xx")
}

// take returns an idle connection to addr.
func (d *direct) take(addr string) (*lane, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, l := range slices.Backward(d.idle) { // the last one is the least likely to have been closed
		if l.addr == addr && l.timer.Stop() {
			d.idle = slices.Delete(d.idle, i, i+1)
			return l, true
		}
	}
	return nil, false
}

// put keeps l for the next request.
func (d *direct) put(l *lane) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l.timer = time.AfterFunc(idleTime, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.idle = slices.DeleteFunc(d.idle, func(other *lane) bool { return other == l })
		l.Close()
	})
	d.idle = append(d.idle, l)
}

// laneBody is the body of an answer. Its connection is used again once it was read to the end.
type laneBody struct {
	io.ReadCloser
	direct *direct
	lane   *lane
	stop   func() bool // ends the effect of ctx on the connection; false if it has shown
	ctx    context.Context
	keep   bool // the agent keeps the connection open
	ended  bool
}

func (b *laneBody) Read(p []byte) (int, error) {
	if b.ended {
		return 0, io.EOF
	}
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.done(errors.Is(err, io.EOF))
		if ctxErr := b.ctx.Err(); ctxErr != nil && !errors.Is(err, io.EOF) {
			err = ctxErr
		}
	}
	return n, err
}

func (b *laneBody) Close() error {
	b.done(false)
	return nil
}

// done ends the use of the connection, which whole says was read to the end of the answer.
func (b *laneBody) done(whole bool) {
	if b.ended {
		return
	}
	b.ended = true
	if b.stop() && whole && b.keep && b.lane.read.Buffered() == 0 {
		b.direct.put(b.lane)
		return
	}
	b.lane.Close()
}

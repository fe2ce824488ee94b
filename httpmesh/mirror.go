package httpmesh

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/routing"
)

// mirror has the call copied as its route wants. It runs before the first attempt, in the goroutine of the caller. A copy is made when
// its body is complete, and never before: so nothing that becomes of it can hold up the call.
func (x *exchange) mirror(d *routed) {
	t, req := x.transport, x.req
	copies, crowded := x.call.Copies()
	t.unmirrored.Add(uint64(crowded))
	if len(copies) == 0 {
		return
	}
	most := 0
	for _, y := range copies {
		most = max(most, y.MaxBody())
	}
	if once(req) || x.protocol.stream(req) || req.ContentLength > int64(most) {
		t.dropCopies(copies)
		return
	}
	e := &tee{transport: t, copies: copies, limit: most, length: req.ContentLength, ctx: untraced{req.Context()}}
	for _, y := range copies {
		e.reqs = append(e.reqs, x.copyFor(d, y))
	}
	if hasBody(req) {
		d.tee.Store(e)
		return
	}
	e.send()
}

// dropCopies counts copies that are not made.
func (t *Transport) dropCopies(copies []*zerohop.Copy) {
	t.unmirrored.Add(uint64(len(copies)))
	for _, y := range copies {
		y.Drop()
	}
}

// copyFor returns the request of a copy without its body. It shares nothing that the caller may change once he has his answer.
func (x *exchange) copyFor(d *routed, y *zerohop.Copy) *http.Request {
	from := x.req.URL
	if d.url != nil {
		from = d.url
	}
	u := *from
	u.Host, u.User = y.Service(), nil
	req := &http.Request{Method: x.req.Method, URL: &u, Host: x.req.Host, Header: x.req.Header.Clone(), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	if strings.EqualFold(req.Host, x.req.URL.Host) {
		req.Host = "" // that of the service
	}
	if req.Header == nil {
		req.Header = http.Header{}
	}
	h := headers{req: req, copied: true}
	if !y.Credentials() {
		h.dropCredentials()
	}
	if w := d.Rewrite; w != nil {
		h.change(&w.Request)
		if w.Host != "" {
			req.Host = w.Host
		}
	}
	h.set(MirrorHeader, "1")
	return req
}

// tee keeps what attempts send of a body for the copies of the call.
type tee struct {
	transport *Transport
	ctx       context.Context // of the caller, for its values
	copies    []*zerohop.Copy
	reqs      []*http.Request // of copies
	limit     int             // of kept
	length    int64           // that was announced

	mu   sync.Mutex // guards what follows
	kept []byte
	over bool // the copies are sent or dropped
}

// teed is a body as one attempt reads it.
type teed struct {
	io.ReadCloser
	tee *tee
	off int
}

func (b *teed) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.tee.saw(b.off, p[:n], err == io.EOF)
	b.off += n
	return n, err
}

// saw takes note of a piece of the body, which other attempts may have sent before. The first that gets to the end lets the copies go.
func (e *tee) saw(off int, b []byte, eof bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over {
		return
	}
	if have := len(e.kept); off <= have && off+len(b) > have {
		e.kept = append(e.kept, b[have-off:]...)
	}
	switch n := len(e.kept); {
	case n > e.limit:
		e.dropLocked()
	case eof && off+len(b) == n, e.length > 0 && int64(n) == e.length:
		e.send()
	}
}

// end drops the copies if the body is not complete when the call has its answer.
func (e *tee) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.over {
		e.dropLocked()
	}
}

func (e *tee) dropLocked() {
	e.over, e.kept = true, nil
	e.transport.dropCopies(e.copies)
}

// send lets the copies go. Nobody reads the body any more, or e.mu is held.
func (e *tee) send() {
	e.over = true
	for i, y := range e.copies {
		req, body := e.reqs[i], e.kept
		if len(body) > y.MaxBody() || !y.Send(e.ctx, func(ctx context.Context) { e.transport.copy(ctx, y, req, body) }) {
			e.transport.dropCopies(e.copies[i : i+1])
			continue
		}
		e.transport.mirrored.Add(1)
	}
}

// copy sends a copy and throws its answer away.
func (t *Transport) copy(ctx context.Context, y *zerohop.Copy, req *http.Request, body []byte) {
	req = req.WithContext(ctx)
	if len(body) > 0 {
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	x := newExchange(t, req)
	r := zerohop.Request{
		Request:    routing.Request{Service: y.Service(), Method: req.Method, Path: pathOf(req.URL), Header: req.Header},
		Protocol:   "http",
		Idempotent: idempotent(req),
		Attempts:   1,
		Copy:       y,
	}
	a, err := x.call.Run(ctx, t.mesh, &r, x)
	x.end()
	x.free(a)
	if err != nil {
		return
	}
	resp := x.deliver(a)
	if resp.Body != nil {
		_, _ = io.CopyN(io.Discard, resp.Body, drainLimit) // what is longer costs its connection
		resp.Body.Close()
	}
}

// untraced is a context without the trace of its caller (package httptrace), who is not to see connections of copies.
type untraced struct{ context.Context }

func (c untraced) Value(key any) any {
	if key == traceKey {
		return nil
	}
	return c.Context.Value(key)
}

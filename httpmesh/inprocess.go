package httpmesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/zerohop/zerohop/loadbalance"
)

// handler returns the one that is called in place of a node, nil if it is not in this process.
func (t *Transport) handler(n *loadbalance.Node) http.Handler {
	if t.Handlers == nil || n == nil {
		return nil
	}
	return t.Handlers[n.Addr()]
}

var (
	errNoUpgrade = errors.New("httpmesh: a handler in this process cannot switch protocols")
	errBroken    = fmt.Errorf("httpmesh: handler broke off: %w", io.ErrUnexpectedEOF)
	errGone      = errors.New("httpmesh: client has gone away")
	errReadOver  = errors.New("http: read on closed response body") // in the words of net/http
)

// hereAddr is the address of either end of a call within the process. Its text is that of the nameless end of a Unix socket.
type hereAddr struct{}

func (hereAddr) Network() string { return "in-process" }
func (hereAddr) String() string  { return "@" }

// here is what contexts of handlers come from. Nothing of the caller's gets there but its end: a handler that is called over a
// network does not see the caller's values either, and those of this package would act on the calls that it makes.
var here = context.WithValue(context.WithValue(context.Background(), http.ServerContextKey, &http.Server{}),
	http.LocalAddrContextKey, net.Addr(hereAddr{}))

// withBody are the methods of requests that say so when they have no body.
var withBody = []string{http.MethodPost, http.MethodPut, http.MethodPatch}

// errand is one request to a handler in this process.
type errand struct {
	out    *http.Request // the caller's
	in     *http.Request // the handler's, who may change it
	head   bool          // the method is HEAD
	trace  *httptrace.ClientTrace
	cancel context.CancelFunc // of the handler's context
	leave  func() bool        // ends the wait for the end of the caller's context

	answered chan struct{} // closed when resp or err is set
	once     sync.Once     // for that
	resp     *http.Response
	err      error

	down    stream      // body of the answer
	trailer http.Header // set before the end of down
	up      *parcel     // nil if the request has no body
}

// callHandler has a handler in this process answer the request as a server would to which it went over a connection. Errors
// close the body of the request.
func callHandler(h http.Handler, req *http.Request) (*http.Response, trip, error) {
	refuse := func(err error) (*http.Response, trip, error) {
		closeBody(req)
		return nil, trip{unsent: true}, err
	}
	switch {
	case ended(req):
		return refuse(cause(req))
	case malformed(req):
		return refuse(errors.New("httpmesh: invalid method, scheme or header, or a length without a body"))
	case req.Method == http.MethodConnect || upgrades(req):
		return refuse(errNoUpgrade)
	}
	v := &errand{out: req, trace: httptrace.ContextClientTrace(req.Context()), answered: make(chan struct{})}
	v.down.init()
	if err := v.enter(); err != nil {
		return refuse(err)
	}
	v.leave = context.AfterFunc(req.Context(), func() { v.abort(cause(req)) })
	if v.trace != nil {
		v.announce()
	}
	go v.serve(h) // until the handler returns; its context ends with the call
	select {
	case <-v.answered:
	case <-req.Context().Done():
		v.abort(cause(req))
	//lint:ignore SA1019 http.Client uses it
	case <-req.Cancel:
		v.abort(errCanceled)
	}
	<-v.answered
	if v.err != nil {
		v.leave()
		v.abort(v.err)
		return nil, trip{}, v.err
	}
	if v.trace != nil && v.trace.GotFirstResponseByte != nil {
		v.trace.GotFirstResponseByte()
	}
	return v.resp, trip{}, nil
}

// announce tells a trace what has happened to the request so far. There is no connection to tell of.
func (v *errand) announce() {
	if v.trace.WroteHeaders != nil {
		v.trace.WroteHeaders()
	}
	if v.trace.WroteRequest != nil {
		v.trace.WroteRequest(httptrace.WroteRequestInfo{})
	}
}

// enter makes the request as the handler sees it.
func (v *errand) enter() error {
	req := v.out
	host := req.Host
	if host == "" {
		host = req.URL.Host
	}
	uri := req.URL.RequestURI()
	u, err := url.ParseRequestURI(uri)
	if err != nil {
		return err
	}
	in := &http.Request{
		Method: req.Method, URL: u, RequestURI: uri, Host: host, Proto: "HTTP/2.0", ProtoMajor: 2, RemoteAddr: hereAddr{}.String(),
		Header: carried(req.Header, notForHandlers), Body: http.NoBody,
	}
	if in.Method == "" {
		in.Method = http.MethodGet
	}
	switch agent, ok := req.Header["User-Agent"]; {
	case !ok:
		in.Header["User-Agent"] = []string{"Go-http-client/2.0"}
	case first(agent) == "":
		delete(in.Header, "User-Agent")
	}
	if req.Body != nil && req.Body != http.NoBody {
		if in.ContentLength = req.ContentLength; in.ContentLength == 0 {
			in.ContentLength = -1
		}
		v.up = &parcel{errand: v, length: in.ContentLength, expected: in.Header.Get("Expect") != ""}
		v.up.init()
		in.Body = v.up
		for k := range req.Trailer {
			if in.Trailer == nil {
				in.Trailer = http.Header{}
			}
			in.Trailer[http.CanonicalHeaderKey(k)] = nil
		}
		v.up.trailer = in.Trailer
	}
	if in.ContentLength > 0 || in.ContentLength == 0 && slices.Contains(withBody, in.Method) {
		in.Header["Content-Length"] = []string{strconv.FormatInt(in.ContentLength, 10)}
	}
	v.head = in.Method == http.MethodHead
	var ctx context.Context
	ctx, v.cancel = context.WithCancel(here)
	v.in = in.WithContext(ctx)
	return nil
}

// answer ends the wait for the head of the answer. Only the first call counts.
func (v *errand) answer(resp *http.Response, err error) {
	v.once.Do(func() {
		v.resp, v.err = resp, err
		close(v.answered)
	})
}

// abort gives the call up, as a broken connection does: on both sides nothing goes on.
func (v *errand) abort(err error) {
	v.answer(nil, err)
	v.down.breakOff(err, errGone)
	v.cancel()
	v.endUpload(io.ErrUnexpectedEOF) // last, as the caller's body may take its time to close
}

// endUpload has nobody read the body of the request any more, and closes it.
func (v *errand) endUpload(err error) {
	if v.up != nil {
		v.up.breakOff(err, errGone)
		v.up.release()
	}
}

// serve calls the handler.
func (v *errand) serve(h http.Handler) {
	w := &errandWriter{errand: v, header: http.Header{}, length: -1}
	returned := false
	defer func() {
		if !returned { // it panicked, or ended its goroutine
			if p := recover(); p != nil && p != http.ErrAbortHandler {
				buf := make([]byte, 64<<10)
				buf = buf[:runtime.Stack(buf, false)]
				log.Printf("httpmesh: panic serving a request in this process: %v\n%s", p, buf) // as http.Server does
			}
			w.fail()
		}
		v.down.stop()
		if v.up != nil {
			v.up.stop()
		}
		v.cancel()
		v.endUpload(http.ErrBodyReadAfterClose)
	}()
	h.ServeHTTP(w, v.in)
	w.finish()
	returned = true
}

// errandBody is the body of an answer.
type errandBody struct {
	errand *errand
	left   int64 // of the length that the answer has said, -1 if none
	closed atomic.Bool
	over   bool
}

func (b *errandBody) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, errReadOver
	}
	if b.over {
		return 0, io.EOF
	}
	n, err := b.errand.down.Read(p)
	if b.left >= 0 {
		if b.left -= int64(n); b.left == 0 && err == nil && b.errand.resp.Trailer == nil {
			b.over = true // the handler may go on without anybody who listens
			b.errand.leave()
			return n, io.EOF
		}
	}
	if err == io.EOF {
		b.over = true
		b.errand.leave()
		b.trail()
	}
	return n, err
}

// trail takes over the trailers, which are complete.
func (b *errandBody) trail() {
	resp := b.errand.resp
	for k, values := range b.errand.trailer {
		if resp.Trailer == nil {
			resp.Trailer = http.Header{}
		}
		resp.Trailer[k] = values
	}
}

// Close lets the handler know that nobody wants the rest.
func (b *errandBody) Close() error {
	if !b.closed.Swap(true) && b.errand.leave() {
		b.errand.abort(errReadOver)
	}
	return nil
}

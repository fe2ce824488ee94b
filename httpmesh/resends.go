package httpmesh

import (
	"context"
	"net/http/httptrace"
	"sync/atomic"
)

// resends counts how often a base transport sends the request of one attempt. net/http does so again by itself when it
// holds the request for idempotent and its connection breaks: without an error, the server may have executed it twice.
type resends struct {
	conns atomic.Int32
	trace httptrace.ClientTrace
}

// watch returns a context by which a transport made of net/http tells which connections it took. The trace that the
// caller may have in his context goes on.
func (r *resends) watch(ctx context.Context) context.Context {
	r.trace.GotConn = func(httptrace.GotConnInfo) { r.conns.Add(1) }
	return httptrace.WithClientTrace(ctx, &r.trace)
}

// count returns how often the request was sent after the first time.
func (r *resends) count() int { return max(int(r.conns.Load())-1, 0) }

package httpmesh

import (
	"context"
	"net/http/httptrace"
	"sync/atomic"
)

// resends counts how often a base transport sends the request of one attempt. net/http does so again by itself when it
// holds the request for idempotent and its connection breaks: without an error, the server may have executed it twice.
//
// It is the context of the attempt, with a trace in it as httptrace.WithClientTrace would put it there.
type resends struct {
	context.Context
	conns atomic.Int32
	trace httptrace.ClientTrace
}

// watch returns a context by which a transport made of net/http tells which connections it took. The trace that the
// caller may have in his context goes on.
func (r *resends) watch(ctx context.Context) context.Context {
	r.trace.GotConn = func(httptrace.GotConnInfo) { r.conns.Add(1) }
	if traceKey == nil || ctx.Value(traceKey) != nil {
		return httptrace.WithClientTrace(ctx, &r.trace)
	}
	r.Context = ctx
	return r
}

// count returns how often the request was sent after the first time.
func (r *resends) count() int { return max(int(r.conns.Load())-1, 0) }

// Value returns the trace where httptrace looks for it, and else what the context of the attempt says.
func (r *resends) Value(key any) any {
	if key == traceKey {
		return &r.trace
	}
	return r.Context.Value(key)
}

// traceKey is the key under which httptrace looks for a trace. It is not exported, but every context is asked for it.
// WithClientTrace would cost a call an allocation and a tenth of what the library adds to it.
var traceKey = func() any {
	var asked keyholder
	httptrace.ContextClientTrace(&asked)
	return asked.key
}()

// keyholder is a context that keeps the key it is asked for.
type keyholder struct {
	context.Context
	key any
}

func (k *keyholder) Value(key any) any {
	k.key = key
	return nil
}

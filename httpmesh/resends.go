package httpmesh

import (
	"context"
	"net/http/httptrace"
	"sync/atomic"
)

// resends counts how often a base transport sends the request of one attempt. net/http does so again by itself when it
// holds the request for idempotent and its connection breaks: without an error, the server may have executed it twice.
//
// It is the context of the attempt, with a trace in it as httptrace.WithClientTrace would put it there. The trace is made
// when somebody asks for it: not every base does.
type resends struct {
	context.Context
	trace atomic.Pointer[resendTrace]
}

type resendTrace struct {
	httptrace.ClientTrace
	conns atomic.Int32
}

// watch returns a context by which a transport made of net/http tells which connections it took. The trace that the
// caller may have in his context goes on.
func (r *resends) watch(ctx context.Context) context.Context {
	if traceKey == nil || ctx.Value(traceKey) != nil {
		return httptrace.WithClientTrace(ctx, r.ask())
	}
	r.Context = ctx
	return r
}

// ask returns the trace.
func (r *resends) ask() *httptrace.ClientTrace {
	if r.trace.Load() == nil {
		t := &resendTrace{}
		t.GotConn = func(httptrace.GotConnInfo) { t.conns.Add(1) }
		r.trace.CompareAndSwap(nil, t)
	}
	return &r.trace.Load().ClientTrace
}

// count returns how often the request was sent after the first time.
func (r *resends) count() int {
	t := r.trace.Load()
	if t == nil {
		return 0
	}
	return max(int(t.conns.Load())-1, 0)
}

// Value returns the trace where httptrace looks for it, and else what the context of the attempt says.
func (r *resends) Value(key any) any {
	if key == traceKey {
		return r.ask()
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

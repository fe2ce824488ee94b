package grpcmesh

import (
	"context"

	"google.golang.org/grpc/metadata"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// fallback is Client.Fallback.
type fallback func(ctx context.Context, method string, req, reply any, err error) error

// unanswered reports whether a call that returned a and err has failed.
func unanswered(a *zerohop.Attempt, err error) bool {
	if err != nil {
		return true
	}
	o := a.Verdict().Outcome
	return o == resilience.Failure || o == resilience.Overload
}

// fallBack returns the answer to a call that failed: that of another service or of make if there is one, or else what the
// call returned, which was a and err. ctx is the caller's.
func (x *unary) fallBack(ctx context.Context, mesh *zerohop.Mesh, a *zerohop.Attempt, err error, r *zerohop.Request, make fallback) error {
	var failure error
	if a != nil {
		x.deliver(a)
		bindTo(x.opts, a)
		failure = answerError(&x.call, a)
		defer a.End(a.Verdict().Outcome, nil)
	} else {
		failure = statusOf(err)
		respond(x.opts, err)
	}
	if credentials, ok := x.call.Instead(a, failure, r); ok {
		if err, ok := x.substitute(ctx, mesh, r, credentials); ok {
			x.call.FellBack(r.Service, failure)
			return err
		}
	}
	if make == nil || !x.call.Failed(a, failure) || make(ctx, x.method, x.req, x.reply, failure) != nil {
		return failure
	}
	x.call.FellBack("", failure)
	return nil
}

// substitute makes the call to the service that answers for another one. It is not ok if that fails, too. The error of an
// application is an answer.
func (x *unary) substitute(ctx context.Context, mesh *zerohop.Mesh, r *zerohop.Request, credentials bool) (_ error, ok bool) {
	opts := x.opts
	if md, ok := metadata.FromOutgoingContext(ctx); ok { // a copy
		if credentials {
			md.Delete("proxy-authorization")
		} else {
			dropCredentials(md)
		}
		ctx = metadata.NewOutgoingContext(ctx, md)
	}
	if !credentials {
		opts = withoutCredentials(opts)
	}
	y := &unary{method: x.method, req: x.req, reply: x.reply, kind: x.kind, cc: x.cc, invoker: x.invoker, opts: opts, header: outgoing{ctx}}
	if x.kind != nil { // what failed may have left something in the caller's
		y.reply = x.kind.New().Interface()
	}
	r.Header = &y.header
	a, err := y.call.Run(ctx, mesh, r, y)
	if err != nil {
		return nil, false
	}
	defer a.End(a.Verdict().Outcome, nil)
	if unanswered(a, nil) {
		return nil, false
	}
	y.deliver(a)
	if x.kind != nil && a.Err == nil {
		(&results{reply: y.reply}).deliver(x.reply, nil, true)
	}
	bindTo(y.opts, a)
	return a.Err, true
}

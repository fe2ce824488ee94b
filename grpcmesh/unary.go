package grpcmesh

import (
	"context"
	"reflect"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// UnaryInterceptor returns an interceptor that makes the unary calls of any connection calls of a service on a mesh, with
// its policies: retries, backups, timeouts and the retry budget. DialOptions contains it for connections to a Target.
//
// An empty service is that of the connection's Target; on other connections the interceptor does nothing then. With a
// service named, and on a connection to something else than a Target ("dns:///orders.example.com"), the endpoints are
// those of the connection: gRPC finds them and its balancer picks one for each attempt, so a retry or a backup goes where
// that sends it, which may be the endpoint that failed, and there is no circuit breaker. What becomes of an attempt
// is judged by its status. The mesh does not look for endpoints of the service, which it need not know. Retries of gRPC
// itself (retryPolicy in a service config) should be off, or they multiply.
//
// A policy for some methods is that of a route with a path, which for gRPC is the full method:
//
//	zerohop.Spec{
//		Policies: map[string]zerohop.Policy{"safe": {Idempotent: zerohop.On}},
//		Routes: []routing.Rule{{
//			Match:  routing.Match{Service: "orders", Path: routing.Path{Exact: "/shop.v1.Orders/Get"}},
//			Policy: "safe",
//		}},
//	}
//
// What a route wants besides (routing.Rule) is done for RPCs, too, streams included: metadata is rewritten for each attempt, from
// that of the caller; Rewrite.Host is the :authority, which TLS verifies; faults and fixed responses are statuses, with
// Response.Headers as the header of a unary call. Unary calls are mirrored if their messages are of protobuf, on connections to
// a Target. A call that is routed to another service, unless Backend.Credentials says so, does not take along the metadata that its
// caller proves himself with, nor grpc.PerRPCCredentials; credentials of the connection (grpc.WithPerRPCCredentials) go with all.
//
// A method is matched as it is, case and all. One that is not of the form "/package.Service/Method" has no route with a
// path, and is idempotent only if the policy of its service or zerohop.CallOptions say so.
func UnaryInterceptor(mesh *zerohop.Mesh, service string) grpc.UnaryClientInterceptor {
	return unaryInterceptor(mesh, service, nil, nil)
}

func unaryInterceptor(mesh *zerohop.Mesh, service string, p patience, make fallback) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		name, ours, ok := calledOn(cc, service)
		if !ok {
			return invoker(ctx, method, req, reply, cc, opts...)
		}
		var f finishers
		x := newUnary(mesh)
		x.method, x.req, x.reply, x.cc, x.invoker, x.opts, x.header = method, req, reply, cc, invoker, f.take(opts), outgoing{ctx}
		if m, ok := reply.(proto.Message); ok {
			x.kind = m.ProtoReflect().Type() // now: while an attempt writes to the reply, it cannot be asked
		}
		r := request(name, method, &x.header, opts, p)
		r.Whole, r.OwnEndpoints = true, !ours
		a, err := x.call.Run(ctx, mesh, &r, x)
		if unanswered(a, err) {
			err = x.fallBack(ctx, mesh, a, err, &r, make)
		} else {
			x.deliver(a)
			bindTo(x.opts, a)
			err = answerError(&x.call, a)
			a.End(a.Verdict().Outcome, nil)
		}
		f.call(err)
		return err
	}
}

// calledOn returns the service that is called on a connection, by an interceptor for the given one, and whether the
// endpoints are ours. It is not ok if the call is none of the mesh.
func calledOn(cc *grpc.ClientConn, service string) (name string, ours, ok bool) {
	name, ours = serviceOf(cc)
	if service != "" {
		name = service
	}
	return name, ours, ours || service != ""
}

// noPath is a path that no route matches: it does not begin with a slash.
const noPath = "*"

// request describes an RPC to the mesh.
func request(service, method string, header routing.Values, opts []grpc.CallOption, p patience) zerohop.Request {
	r := zerohop.Request{
		Request:   routing.Request{Service: service, Method: "POST", Path: method, Header: header},
		Protocol:  "grpc",
		Operation: method,
		LatePick:  true,
		WaitReady: p.of(method),
	}
	var proper bool
	if r.Idempotent, proper = idempotent(method); !proper {
		r.Path = noPath
	}
	for _, o := range opts {
		if o, ok := o.(grpc.FailFastCallOption); ok {
			r.WaitReady = !o.FailFast
		}
	}
	return r
}

// unary is one unary call.
type unary struct {
	routed
	call       zerohop.Call
	method     string
	req, reply any
	kind       protoreflect.MessageType // of the reply; nil if it is no protobuf message
	cc         *grpc.ClientConn
	invoker    grpc.UnaryInvoker
	opts       []grpc.CallOption // for each attempt
	header     outgoing
	begun      atomic.Int32 // attempts that may have reached a server
	first      attemptState // most calls make one attempt only
	more       atomic.Pointer[furtherUnary]
}

// toldUnary is one that hooks are told of.
type toldUnary struct {
	unary
	details zerohop.Details
}

func newUnary(mesh *zerohop.Mesh) *unary {
	if !mesh.Observed() {
		return &unary{}
	}
	x := &toldUnary{}
	x.call.Room(&x.details)
	return &x.unary
}

// furtherUnary is what a call needs when its first attempt is not its last.
type furtherUnary struct {
	states  [resilience.MaxAttempts - 1]attemptState
	private [resilience.MaxAttempts - 1]*results
}

// rest returns what calls with further attempts have.
func (x *unary) rest() *furtherUnary {
	if x.more.Load() == nil {
		x.more.CompareAndSwap(nil, &furtherUnary{})
	}
	return x.more.Load()
}

// state returns the state of an attempt.
func (x *unary) state(a *zerohop.Attempt) *attemptState {
	if a.Number == 0 {
		return &x.first
	}
	return &x.rest().states[a.Number-1]
}

func (x *unary) Attempt(ctx context.Context, a *zerohop.Attempt) resilience.Verdict {
	st := x.state(a)
	st.attempt = a
	sent := int(x.begun.Add(1)) - 1
	if a.Number == 0 && !a.OwnEndpoints() {
		x.mirror()
	}
	ctx = propagate(announce(x.edit(ctx), &x.call, a, sent), &x.call)
	reply, opts := x.reply, x.opts
	if a.Backup() { // another attempt may be writing to what the caller gave
		p := newResults(x.reply, x.kind, x.opts)
		x.rest().private[a.Number-1] = p
		reply, opts = p.reply, p.opts
	}
	var seen *evidence
	if a.OwnEndpoints() {
		seen = &evidence{}
		opts = seen.options(opts)
	}
	err := st.truth(x.invoker(ctx, x.method, x.req, reply, x.cc, x.options(opts)...))
	if err == nil {
		a.Status = 0
		return resilience.Verdict{Outcome: resilience.Success}
	}
	if seen != nil {
		st.end(seen.ending())
	}
	v := st.judge(ctx, err)
	if v.Unsent && v.Outcome != resilience.Overload { // a server that refused it makes it a repetition for others
		x.begun.Add(-1)
	}
	return v
}

// evidence is what an attempt leaves on a connection whose balancer does not tell us how attempts end.
type evidence struct {
	peer            peer.Peer
	header, trailer metadata.MD
}

// options returns options for the attempt that collect the evidence.
func (e *evidence) options(opts []grpc.CallOption) []grpc.CallOption {
	return append(opts[:len(opts):len(opts)], grpc.Peer(&e.peer), grpc.Header(&e.header), grpc.Trailer(&e.trailer))
}

// ending returns how the attempt ended, but for its error. Only what got a stream has a peer, and every answer has a
// header or, if it is nothing but an error, a trailer.
func (e *evidence) ending() ending {
	return ending{sent: e.peer.Addr != nil, received: len(e.header)+len(e.trailer) > 0, pushback: pushback(e.trailer), shed: shed(e.trailer)}
}

func (x *unary) Release(*zerohop.Attempt) {}

// Describe returns what hooks are told of the call.
func (x *unary) Describe() (protocol, host, method string) { return describe(x.cc, x.method) }

func describe(cc *grpc.ClientConn, operation string) (protocol, host, method string) {
	host, _ = serviceOf(cc)
	return "grpc", host, operation
}

// Wait returns a context that ends with the connection, too: nobody but gRPC knows that it was closed.
func (x *unary) Wait(ctx context.Context) (context.Context, context.CancelFunc) {
	return untilClosed(ctx, x.cc)
}

// deliver gives the caller what the answering attempt got.
func (x *unary) deliver(a *zerohop.Attempt) {
	if a.Backup() {
		x.rest().private[a.Number-1].deliver(x.reply, x.opts, a.Err == nil)
	}
	if c := x.answer(); c != nil {
		headerOf(x.opts, func(md metadata.MD) { change(md, c) })
	}
}

// results is where an attempt puts its results when they must not go to the caller yet.
type results struct {
	reply any
	opts  []grpc.CallOption
}

// newResults returns results like those that the caller wants, and options that put them there. It does not look at
// what the caller gave, since another attempt may be writing to that.
func newResults(reply any, kind protoreflect.MessageType, opts []grpc.CallOption) *results {
	r := &results{opts: make([]grpc.CallOption, len(opts))}
	if kind != nil {
		r.reply = kind.New().Interface()
	} else {
		r.reply = reflect.New(reflect.TypeOf(reply).Elem()).Interface()
	}
	for i, o := range opts {
		switch o := o.(type) {
		case grpc.HeaderCallOption:
			r.opts[i] = grpc.Header(&metadata.MD{})
		case grpc.TrailerCallOption:
			r.opts[i] = grpc.Trailer(&metadata.MD{})
		case grpc.PeerCallOption:
			r.opts[i] = grpc.Peer(&peer.Peer{})
		default:
			r.opts[i] = o
		}
	}
	return r
}

// deliver copies the results to the caller's.
func (r *results) deliver(reply any, opts []grpc.CallOption, answered bool) {
	if answered {
		if dst, ok := reply.(proto.Message); ok {
			proto.Reset(dst)
			proto.Merge(dst, r.reply.(proto.Message))
		} else {
			reflect.ValueOf(reply).Elem().Set(reflect.ValueOf(r.reply).Elem())
		}
	}
	for i, o := range opts {
		switch o := o.(type) {
		case grpc.HeaderCallOption:
			*o.HeaderAddr = *r.opts[i].(grpc.HeaderCallOption).HeaderAddr
		case grpc.TrailerCallOption:
			*o.TrailerAddr = *r.opts[i].(grpc.TrailerCallOption).TrailerAddr
		case grpc.PeerCallOption:
			*o.PeerAddr = *r.opts[i].(grpc.PeerCallOption).PeerAddr
		}
	}
}

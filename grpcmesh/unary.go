package grpcmesh

import (
	"context"
	"reflect"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

func unaryInterceptor(mesh *zerohop.Mesh) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		service, ok := serviceOf(cc)
		if !ok {
			return invoker(ctx, method, req, reply, cc, opts...)
		}
		x := &unary{method: method, req: req, reply: reply, cc: cc, invoker: invoker, opts: opts, header: outgoing{ctx}}
		if m, ok := reply.(proto.Message); ok {
			x.kind = m.ProtoReflect().Type() // now: while an attempt writes to the reply, it cannot be asked
		}
		r := request(service, method, &x.header, opts)
		r.Idempotent, r.Whole = idempotent(method), true
		a, err := x.call.Run(ctx, mesh, &r, x)
		if err != nil {
			return statusOf(err)
		}
		x.deliver(a)
		err = answerError(&x.call, a)
		a.End(a.Verdict().Outcome, nil)
		return err
	}
}

// request describes an RPC to the mesh.
func request(service, method string, header routing.Values, opts []grpc.CallOption) zerohop.Request {
	r := zerohop.Request{
		Request:  routing.Request{Service: service, Method: "POST", Path: method, Header: header},
		Protocol: "grpc",
		LatePick: true,
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
	call       zerohop.Call
	method     string
	req, reply any
	kind       protoreflect.MessageType // of the reply; nil if it is no protobuf message
	cc         *grpc.ClientConn
	invoker    grpc.UnaryInvoker
	opts       []grpc.CallOption
	header     outgoing
	first      attemptState // most calls make one attempt only
	private    [resilience.MaxAttempts]*results
}

func (x *unary) Attempt(ctx context.Context, a *zerohop.Attempt) resilience.Verdict {
	st := &x.first
	if a.Number > 0 {
		st = &attemptState{}
	}
	st.attempt, a.State = a, st
	ctx = propagate(ctx, &x.call)
	reply, opts := x.reply, x.opts
	if a.Backup() { // another attempt may be writing to what the caller gave
		p := newResults(x.reply, x.kind, x.opts)
		x.private[a.Number] = p
		reply, opts = p.reply, p.opts
	}
	if err := x.invoker(ctx, x.method, x.req, reply, x.cc, opts...); err != nil {
		return st.judge(ctx, err)
	}
	a.Status = 0
	return resilience.Verdict{Outcome: resilience.Success}
}

func (x *unary) Release(*zerohop.Attempt) {}

// deliver gives the caller what the answering attempt got.
func (x *unary) deliver(a *zerohop.Attempt) {
	if p := x.private[a.Number]; p != nil {
		p.deliver(x.reply, x.opts, a.Err == nil)
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

// outgoing gives routes the metadata of a call.
type outgoing struct{ ctx context.Context }

// Get returns the first value of a key, "" if there is none.
func (o *outgoing) Get(name string) string {
	md, _ := metadata.FromOutgoingContext(o.ctx)
	if v := md.Get(name); len(v) > 0 {
		return v[0]
	}
	return ""
}

// propagate adds what hooks set to the metadata of an attempt.
func propagate(ctx context.Context, call *zerohop.Call) context.Context {
	if !call.Propagates() {
		return ctx
	}
	var pairs []string
	call.Propagate(ctx, func(key, value string) { pairs = append(pairs, key, value) })
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}

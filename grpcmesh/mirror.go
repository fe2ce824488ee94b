package grpcmesh

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/zerohop/zerohop"
)

// mirror has the call copied as its route wants, before the first attempt, in the goroutine of the caller. Messages that are not
// of protobuf, and those that are too large, are not. Streams have no copies.
func (x *unary) mirror() {
	if d := x.directions; d == nil || !d.Mirrored {
		return
	}
	copies, _ := x.call.Copies()
	if len(copies) == 0 {
		return
	}
	var req proto.Message // that the caller may change once he has his answer
	m, ok := x.req.(proto.Message)
	size := 0
	if ok = ok && x.kind != nil; ok {
		size = proto.Size(m)
	}
	for _, y := range copies {
		if !ok || size > y.MaxBody() {
			y.Drop()
			continue
		}
		if req == nil {
			req = proto.Clone(m)
		}
		z := &unary{method: x.method, req: req, reply: x.kind.New().Interface(), kind: x.kind, cc: x.cc, invoker: x.invoker, opts: x.optionsFor(y)}
		y.Send(x.header.ctx, func(ctx context.Context) { z.copy(ctx, x, y) })
	}
}

// optionsFor returns the options of a copy: those that neither give anything to the caller nor prove him.
func (x *unary) optionsFor(y *zerohop.Copy) (opts []grpc.CallOption) {
	for _, o := range x.opts {
		switch o.(type) {
		case grpc.HeaderCallOption, grpc.TrailerCallOption, grpc.PeerCallOption, grpc.OnFinishCallOption, grpc.FailFastCallOption:
			continue
		case grpc.PerRPCCredsCallOption:
			if !y.Credentials() {
				continue
			}
		}
		opts = append(opts, o)
	}
	if w := x.directions.Rewrite; w != nil && w.Host != "" {
		opts = append(opts, grpc.CallAuthority(w.Host))
	}
	return opts
}

// copy sends a copy of the call x and throws its answer away.
func (z *unary) copy(ctx context.Context, x *unary, y *zerohop.Copy) {
	md, _ := metadata.FromOutgoingContext(ctx) // a copy
	if md == nil {
		md = metadata.MD{}
	}
	if !y.Credentials() {
		dropCredentials(md)
	}
	if w := x.directions.Rewrite; w != nil {
		change(md, &w.Request)
	}
	md.Set(mirrorKey, "1")
	ctx = metadata.NewOutgoingContext(ctx, md)
	z.header = outgoing{ctx}
	r := request(y.Service(), z.method, &z.header, nil, nil)
	r.Whole, r.Attempts, r.Copy = true, 1, y
	if a, err := z.call.Run(ctx, x.call.Mesh(), &r, z); err == nil {
		a.End(a.Verdict().Outcome, nil)
	}
}

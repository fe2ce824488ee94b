package grpcmesh

import (
	"context"
	"errors"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/routing"
)

const (
	// faultKey of a header says that it comes from no service but from a fault of a route (routing.Fault.Abort): "abort".
	faultKey = "zerohop-fault"
	// mirrorKey of a request says that it is a copy (routing.Mirror), whose answer nobody reads: "1".
	mirrorKey = "zerohop-mirror"
)

var errPath = errors.New("grpcmesh: the path of an RPC, which names its method, cannot be rewritten")

// routed is what the route of a call wants besides choosing where it goes. The zero value is nothing.
type routed struct{ directions *zerohop.Directions }

// Direct takes note of what the route wants.
func (y *routed) Direct(d *zerohop.Directions) error {
	if w := d.Rewrite; w != nil && w.Path != (routing.PathRewrite{}) {
		return errPath
	}
	y.directions = d
	return nil
}

// edit returns the context of an attempt with the metadata that the route wants. It starts from that of the caller each time, so
// that nothing is added twice.
func (y *routed) edit(ctx context.Context) context.Context {
	d := y.directions
	if d == nil || !d.Anonymous && d.Headers == nil && (d.Rewrite == nil || !changes(&d.Rewrite.Request)) {
		return ctx
	}
	md, _ := metadata.FromOutgoingContext(ctx) // a copy
	if md == nil {
		md = metadata.MD{}
	}
	if d.Anonymous {
		dropCredentials(md)
	}
	if d.Rewrite != nil {
		change(md, &d.Rewrite.Request)
	}
	if d.Headers != nil {
		change(md, d.Headers)
	}
	return metadata.NewOutgoingContext(ctx, md)
}

// options returns the options of an attempt.
func (y *routed) options(opts []grpc.CallOption) []grpc.CallOption {
	d := y.directions
	if d == nil {
		return opts
	}
	if d.Anonymous {
		opts = withoutCredentials(opts)
	}
	if w := d.Rewrite; w != nil && w.Host != "" {
		opts = append(slices.Clip(opts), grpc.CallAuthority(w.Host))
	}
	return opts
}

// answer returns what the route changes in the header of an answer, nil if nothing.
func (y *routed) answer() *routing.Headers {
	if d := y.directions; d != nil && d.Rewrite != nil && changes(&d.Rewrite.Response) {
		return &d.Rewrite.Response
	}
	return nil
}

// withoutCredentials returns the options but for those by which the caller of an RPC proves himself.
func withoutCredentials(opts []grpc.CallOption) []grpc.CallOption {
	secret := func(o grpc.CallOption) bool {
		_, is := o.(grpc.PerRPCCredsCallOption)
		return is
	}
	if !slices.ContainsFunc(opts, secret) {
		return opts
	}
	return slices.DeleteFunc(slices.Clone(opts), secret)
}

// dropCredentials removes what the caller proves himself with.
func dropCredentials(md metadata.MD) {
	for k := range md {
		if k == "authorization" || k == "cookie" || strings.HasPrefix(k, "proxy-") {
			delete(md, k)
		}
	}
}

func changes(h *routing.Headers) bool { return len(h.Set)+len(h.Add)+len(h.Remove) > 0 }

// change removes, sets and adds keys of metadata that is ours.
func change(md metadata.MD, c *routing.Headers) {
	for _, name := range c.Remove {
		md.Delete(name)
	}
	for name, value := range c.Set {
		md.Set(name, value)
	}
	for name, value := range c.Add {
		md.Append(name, value)
	}
}

// headerOf has f change the header of the answer that the caller of a unary call asked for, if he did.
func headerOf(opts []grpc.CallOption, f func(metadata.MD)) {
	for _, o := range opts {
		if o, ok := o.(grpc.HeaderCallOption); ok {
			if *o.HeaderAddr == nil {
				*o.HeaderAddr = metadata.MD{}
			}
			f(*o.HeaderAddr)
		}
	}
}

// respond gives the caller of a unary call the header of the answer that its route has, if that is why it failed with err.
func respond(opts []grpc.CallOption, err error) {
	e := zerohop.Answer(err)
	if e == nil {
		return
	}
	headerOf(opts, func(md metadata.MD) {
		clear(md)
		for name, value := range e.Headers {
			md.Set(name, value)
		}
		if e.Injected {
			md.Set(faultKey, "abort")
		}
	})
}

// rewriting is a stream whose header a route changes.
type rewriting struct {
	grpc.ClientStream
	change *routing.Headers
}

func (s rewriting) Header() (metadata.MD, error) {
	md, err := s.ClientStream.Header()
	if md != nil {
		md = md.Copy()
		change(md, s.change)
	}
	return md, err
}

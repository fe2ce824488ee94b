package grpcmesh

import (
	"context"
	"net"
	"strings"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/zerohop/zerohop"
)

// keys finds the key of an RPC for the algorithms that hash.
type keys struct {
	ctx    context.Context
	method string
}

// Key returns the key that the RPC has there.
func (k *keys) Key(s *zerohop.HashSource) string {
	switch {
	case s.Header != "":
		if v := metadata.ValueFromOutgoingContext(k.ctx, s.Header); len(v) == 1 {
			return v[0]
		} else {
			return strings.Join(v, ",")
		}
	case s.Path:
		return k.method
	case s.Client:
		if p, ok := peer.FromContext(k.ctx); ok && p.Addr != nil {
			addr := p.Addr.String()
			if host, _, err := net.SplitHostPort(addr); err == nil {
				return host
			}
			return addr
		}
	}
	return ""
}

// Key returns the key of the call.
func (x *unary) Key(s *zerohop.HashSource) string { return (&keys{x.header.ctx, x.method}).Key(s) }

// Key returns the key of the call.
func (x *stream) Key(s *zerohop.HashSource) string { return (&keys{x.header.ctx, x.method}).Key(s) }

package grpcmesh

import (
	"context"
	"errors"
	"net"

	"google.golang.org/grpc"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/lifecycle"
)

// Serving returns server, which must have the ServerOptions of s, as lifecycle.Run serves and drains it. l is what it serves.
// It is registered as the given instances.
func (s *Server) Serving(server *grpc.Server, l net.Listener, as ...discovery.Instance) lifecycle.Server {
	return lifecycle.Server{
		Listener: l,
		Serve: func(l net.Listener) error {
			if err := server.Serve(l); !errors.Is(err, grpc.ErrServerStopped) {
				return err
			}
			return nil
		},
		Drain:     func(ctx context.Context) error { return s.Drain(ctx, server) },
		Stop:      server.Stop,
		Instances: as,
	}
}

package grpcmesh

import (
	"context"

	"google.golang.org/grpc/metadata"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/baggage"
)

// lane returns the lane of an inbound call, and the context of its handler.
func (s *Server) lane(ctx context.Context) (context.Context, string) {
	carried := metadata.ValueFromIncomingContext(ctx, baggage.Name)
	switch {
	case len(carried) == 0:
		return ctx, ""
	case !s.IgnoreLane:
		return ctx, zerohop.LaneIn(carried)
	case !baggage.Has(carried, zerohop.LaneKey):
		return ctx, ""
	}
	md, _ := metadata.FromIncomingContext(ctx) // a copy
	delete(md, baggage.Name)
	if rest := baggage.Delete(carried, zerohop.LaneKey); rest != "" {
		md[baggage.Name] = []string{rest}
	}
	return metadata.NewIncomingContext(ctx, md), ""
}

package grpcmesh

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/zerohop/zerohop/internal/orca"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// wantLoad is the metadata of RPCs to endpoints that are picked by their load. It is shared.
var wantLoad = metadata.Pairs(wantLoadKey, "1")

// reportLoad tells a node what it says of its load at the end of an RPC.
func reportLoad(n *loadbalance.Node, trailer metadata.MD, e ending) {
	values := trailer[loadKey]
	if len(values) == 0 {
		return
	}
	l, ok := orca.Message(values[len(values)-1])
	if !ok {
		return
	}
	if e.picked().Outcome != resilience.Success {
		l.InFlight = 0
	}
	n.ReportLoad(time.Now(), l)
}

// prober asks the endpoints of a pool for their load, over the connections that RPCs use.
type prober struct {
	owner *meshBalancer
	pool  *pool
}

// Probe asks an endpoint that gRPC is connected to.
func (p *prober) Probe(ctx context.Context, n *loadbalance.Node) (loadbalance.Load, error) {
	p.owner.mu.Lock()
	closed := p.owner.closed
	p.owner.mu.Unlock()
	if closed {
		return loadbalance.Load{}, loadbalance.ErrProberClosed
	}
	conn, release, err := p.pool.conn(ctx, n)
	if err != nil {
		return loadbalance.Load{}, fmt.Errorf("grpcmesh: probe of %s: %w", n.Addr(), err)
	}
	defer release()
	l, err := askLoad(ctx, conn)
	if err != nil {
		return loadbalance.Load{}, fmt.Errorf("grpcmesh: probe of %s: %w", n.Addr(), err)
	}
	return l, nil
}

// askLoad asks the server at the end of a connection.
func askLoad(ctx context.Context, conn grpc.ClientConnInterface) (loadbalance.Load, error) {
	var reply emptypb.Empty
	if err := conn.Invoke(ctx, loadMethod, &emptypb.Empty{}, &reply); err != nil {
		switch status.Code(err) {
		case codes.Unimplemented, codes.Unauthenticated, codes.PermissionDenied:
			return loadbalance.Load{}, fmt.Errorf("%w: %w", loadbalance.ErrNoProbes, err)
		}
		return loadbalance.Load{}, err
	}
	l, ok := orca.Message([]byte(reply.ProtoReflect().GetUnknown()))
	if !ok {
		return loadbalance.Load{}, loadbalance.ErrNoProbes
	}
	return l, nil
}

package main

import (
	"context"
	"log"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop/examples/grpc/stockpb"
	"github.com/zerohop/zerohop/grpcmesh"
)

// instance is one server of the service.
type instance struct {
	stockpb.UnimplementedStockServer
	name   string
	addr   string
	store  *store
	mesh   grpcmesh.Server // the server half: deadlines, restrained repetitions, drain
	server *grpc.Server
	broken atomic.Bool // all calls fail
}

func start(name string, store *store) *instance {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	i := &instance{name: name, addr: l.Addr().String(), store: store}
	i.mesh.Lag = 50 * time.Millisecond // nobody has to be told here
	i.server = grpc.NewServer(i.mesh.ServerOptions()...)
	stockpb.RegisterStockServer(i.server, i)
	go func() {
		if err := i.server.Serve(l); err != nil {
			log.Fatal(err)
		}
	}()
	return i
}

// leave stops the instance without failing a call.
func (i *instance) leave() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return i.mesh.Drain(ctx, i.server)
}

var errBroken = status.Error(codes.Unavailable, "out of order")

func (i *instance) Count(context.Context, *stockpb.CountRequest) (*stockpb.CountReply, error) {
	if i.broken.Load() {
		return nil, errBroken
	}
	pieces, _ := i.store.look()
	return &stockpb.CountReply{Pieces: pieces}, nil
}

func (i *instance) Order(_ context.Context, req *stockpb.OrderRequest) (*stockpb.OrderReply, error) {
	if i.broken.Load() {
		return nil, errBroken
	}
	return &stockpb.OrderReply{Left: i.store.take(req.GetPieces())}, nil
}

func (i *instance) Watch(_ *stockpb.CountRequest, stream grpc.ServerStreamingServer[stockpb.CountReply]) error {
	if i.broken.Load() {
		return errBroken
	}
	for {
		pieces, changed := i.store.look()
		if err := stream.Send(&stockpb.CountReply{Pieces: pieces}); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-i.mesh.Draining():
			return status.Error(codes.Unavailable, "this instance is leaving")
		}
	}
}

package grpcmesh

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
)

var errClosing = errors.New("grpcmesh: the client connection is closing")

// untilClosed returns a context that also ends when the connection is closed. cancel waits for what watches it.
func untilClosed(ctx context.Context, cc *grpc.ClientConn) (_ context.Context, cancel context.CancelFunc) {
	ctx, end := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := cc.GetState(); s != connectivity.Shutdown; s = cc.GetState() {
			if !cc.WaitForStateChange(ctx, s) {
				return
			}
		}
		end(errClosing)
	}()
	return ctx, func() {
		end(nil)
		<-done
	}
}

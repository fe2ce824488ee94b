package grpcmesh

import (
	"context"
	"net"
	"syscall"
)

// dialer returns gRPC's own dialer, which sends keepalives as the system is set up, but for addresses that control refuses.
func dialer(control func(ctx context.Context, network, addr string, c syscall.RawConn) error) func(context.Context, string) (net.Conn, error) {
	d := &net.Dialer{ControlContext: control}
	d.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}
	return func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
}

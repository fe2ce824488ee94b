package grpcmesh

import (
	"context"
	"net"
	"strings"
	"syscall"
)

// dialer returns gRPC's own dialer, which sends keepalives as the system is set up, but for addresses that control refuses.
func dialer(control func(ctx context.Context, network, addr string, c syscall.RawConn) error) func(context.Context, string) (net.Conn, error) {
	d := &net.Dialer{ControlContext: control}
	d.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}
	return func(ctx context.Context, addr string) (net.Conn, error) {
		// gRPC names sockets in this way to dialers that are not its own. No endpoint has such an address.
		if path, ok := strings.CutPrefix(addr, "unix://"); ok {
			return d.DialContext(ctx, "unix", path)
		}
		return d.DialContext(ctx, "tcp", addr)
	}
}

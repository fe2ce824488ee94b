package grpcmesh

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/samehost"
)

// dialControl refuses addresses, as ControlContext of a net.Dialer.
type dialControl = func(ctx context.Context, network, addr string, c syscall.RawConn) error

// dialContext connects, as DialContext of a net.Dialer.
type dialContext = func(ctx context.Context, network, addr string) (net.Conn, error)

// inProcess are what makes connections to endpoints in this process, by address.
type inProcess = map[string]func(context.Context) (net.Conn, error)

// dialer returns gRPC's own dialer, which sends keepalives as the system is set up, but for addresses that control refuses, and
// those that can be reached on this host or in this process; near is nil if there are none of the former and nobody counts. dial,
// if it is not nil, takes its place for all other addresses.
func dialer(control dialControl, near *neighbours, here inProcess, dial dialContext) func(context.Context, string) (net.Conn, error) {
	d := &net.Dialer{ControlContext: control}
	d.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}
	if dial == nil {
		dial = d.DialContext
	}
	connect := func(ctx context.Context, addr string, ev *zerohop.ConnectionEvent) (conn net.Conn, err error) {
		if open := here[addr]; open != nil {
			ev.Network = zerohop.NetworkInProcess
			return open(ctx)
		}
		if near != nil {
			if conn, err = near.dial(ctx, addr, control); conn != nil {
				ev.Network = zerohop.NetworkUnix
				return conn, nil
			}
			if ctx.Err() == nil {
				ev.Fallback = samehost.ReasonOf(err)
			}
		}
		if conn, err = dial(ctx, "tcp", addr); near != nil && err == nil {
			near.dialled(addr)
		}
		return conn, err
	}
	return func(ctx context.Context, addr string) (net.Conn, error) {
		// gRPC names sockets in this way to dialers that are not its own. No endpoint has such an address.
		if path, ok := strings.CutPrefix(addr, "unix://"); ok {
			return d.DialContext(ctx, "unix", path)
		}
		if strings.HasPrefix(addr, "\x00") { // an abstract one
			return d.DialContext(ctx, "unix", addr)
		}
		ev := zerohop.ConnectionEvent{Addr: addr}
		conn, err := connect(ctx, addr, &ev)
		if ev.Err = err; near != nil && !errors.Is(ctx.Err(), context.Canceled) {
			near.tell(ev)
		}
		return conn, err
	}
}

package httpmesh

import (
	"context"
	"net"
)

// bySocket returns a dialer that connects to the Unix socket of an endpoint, if it has one that works, or else dials. TLS is
// spoken over either in the same way. Proxies are dialled.
func bySocket(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if d, ok := ctx.Value(dialKey{}).(*dialing); ok && d.socket != nil && addr == d.addr {
			conn, err := d.socket.Dial(ctx)
			if err == nil {
				d.local = true
				return conn, nil
			}
			if ctx.Err() == nil {
				d.missed = err
			}
		}
		return dial(ctx, network, addr)
	}
}

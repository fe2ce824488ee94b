package httpmesh

import (
	"context"
	"net"
	"net/http/httptrace"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
)

// control refuses addresses that connections must not lead to, as ControlContext of a net.Dialer.
type control = func(ctx context.Context, network, addr string, c syscall.RawConn) error

// controlKey is the key of what a dialer has to heed. Connections to a proxy have nil: the user has chosen it.
type controlKey struct{}

func controlOf(ctx context.Context) control {
	c, _ := ctx.Value(controlKey{}).(control)
	return c
}

// controlled is the ControlContext of our own dialer.
func controlled(ctx context.Context, network, addr string, raw syscall.RawConn) error {
	if c := controlOf(ctx); c != nil {
		return c(ctx, network, addr, raw)
	}
	return nil
}

// literal reports whether the host of an endpoint is an IP address.
func literal(addr string) bool {
	_, err := netip.ParseAddrPort(addr)
	return err == nil
}

// supervised makes a dialer of the base heed what it cannot be told of. Addresses are checked before it is called. It shows
// what a name leads to if it looks it up with package net, as a net.Dialer does: then the dial is given up before
// the first packet. What it looks up in another way is seen by its connection, which is closed before anything is
// sent on it. If that is to another port than that of the endpoint, it is one to a proxy.
func supervised(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		check := controlOf(ctx)
		host, port, err := net.SplitHostPort(addr)
		if check == nil || err != nil || literal(addr) {
			return dial(ctx, network, addr)
		}
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		var refused atomic.Pointer[error]
		refuse := func(err error) {
			refused.CompareAndSwap(nil, &err)
			cancel(err)
		}
		var ours, seen atomic.Bool // the look-up under way is that of the endpoint; there was one
		conn, err := dial(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
			DNSStart: func(info httptrace.DNSStartInfo) {
				ours.Store(strings.EqualFold(strings.TrimSuffix(info.Host, "."), strings.TrimSuffix(host, ".")))
			},
			DNSDone: func(info httptrace.DNSDoneInfo) {
				if !ours.Load() {
					return
				}
				seen.Store(true)
				for _, a := range info.Addrs {
					if err := check(ctx, network, net.JoinHostPort(a.String(), port), nil); err != nil {
						refuse(err)
					}
				}
			},
		}), network, addr)
		if err == nil && !seen.Load() {
			if to, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
				if _, at, err := net.SplitHostPort(to.String()); err == nil && at == port {
					if err := check(ctx, network, to.String(), nil); err != nil {
						refuse(err)
					}
				}
			}
		}
		if why := refused.Load(); why != nil {
			if err == nil {
				conn.Close()
			}
			return nil, &net.OpError{Op: "dial", Net: network, Err: *why}
		}
		return conn, err
	}
}

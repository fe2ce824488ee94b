package ebpfaccel

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Control marks a socket for acceleration, as the Control of a [net.Dialer] or [net.ListenConfig]; what a listener accepts is
// marked as the listener is. It always returns nil: a socket that cannot be marked is a plain one.
//
// Connections that are made with it have to be passed through [Wrap]. [Dialer] and [ListenConfig] do both.
func Control(network, _ string, c syscall.RawConn) error {
	mark(network, c, nil)
	return nil
}

// mark reports whether the socket could be marked. The first that cannot is logged.
func mark(network string, c syscall.RawConn, log *slog.Logger) bool {
	if !strings.HasPrefix(network, "tcp") {
		return false
	}
	var markErr error
	if err := c.Control(func(fd uintptr) { markErr = setMark(fd) }); err != nil {
		return false // it is closed
	}
	if markErr != nil {
		logged.Do(func() { logWhy(log) })
		return false
	}
	everMarked.Store(true)
	return true
}

// everMarked says that a socket of this process could be marked: any may be accelerated, also after the accelerator was taken down.
var everMarked atomic.Bool

// logged lets one line be logged in the life of a process.
var logged sync.Once

// logWhy says why connections are not accelerated.
func logWhy(log *slog.Logger) {
	if log == nil {
		log = slog.Default()
	}
	if err := Probe(); err != nil {
		log.Warn("connections on this host are not accelerated", "reason", err)
	}
}

// A Dialer dials like its [net.Dialer] and opts in to acceleration. The zero value is ready for use.
type Dialer struct {
	net.Dialer
	// Logger is told, at level Warn, why connections are not accelerated, if this Dialer is the first in the process to find out: it
	// is told once in the life of a process. nil means slog.Default().
	Logger *slog.Logger
}

var defaultDialer = Dialer{Dialer: net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}}

// DialContext dials with a [Dialer] that has the timeouts of [net/http.DefaultTransport].
func DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return defaultDialer.DialContext(ctx, network, address)
}

// Dial is DialContext without a context.
func (d *Dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialContext connects to the address. Only TCP is accelerated; other networks are dialed as a net.Dialer does. It may be called
// by several goroutines at a time.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	inner := d.Dialer
	control, controlContext := inner.Control, inner.ControlContext
	inner.SetMultipathTCP(false) // it has no place for marks
	inner.ControlContext = func(ctx context.Context, network, address string, c syscall.RawConn) error {
		switch {
		case controlContext != nil:
			if err := controlContext(ctx, network, address, c); err != nil {
				return err
			}
		case control != nil:
			if err := control(network, address, c); err != nil {
				return err
			}
		}
		mark(network, c, d.Logger)
		return nil
	}
	c, err := inner.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return Wrap(c), nil
}

// A ListenConfig listens like its [net.ListenConfig] and opts in to acceleration. The zero value is ready for use.
type ListenConfig struct {
	net.ListenConfig
	// Logger is that of [Dialer].
	Logger *slog.Logger
}

// Listen listens on the address. Only TCP is accelerated; on other networks it listens as a net.ListenConfig does.
func (lc *ListenConfig) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	inner := lc.ListenConfig
	control := inner.Control
	inner.SetMultipathTCP(false)
	inner.Control = func(network, address string, c syscall.RawConn) error {
		if control != nil {
			if err := control(network, address, c); err != nil {
				return err
			}
		}
		mark(network, c, lc.Logger)
		return nil
	}
	l, err := inner.Listen(ctx, network, address)
	if err != nil {
		return nil, err
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return l, nil
	}
	if !mayBeAccelerated(tcp) {
		return l, nil
	}
	return &listener{tcp}, nil
}

// A listener accepts wrapped connections.
type listener struct {
	tcp *net.TCPListener
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.tcp.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return newConn(c), nil
}

func (l *listener) Close() error                          { return l.tcp.Close() }
func (l *listener) Addr() net.Addr                        { return l.tcp.Addr() }
func (l *listener) SetDeadline(t time.Time) error         { return l.tcp.SetDeadline(t) }
func (l *listener) SyscallConn() (syscall.RawConn, error) { return l.tcp.SyscallConn() }

// mayBeAccelerated reports whether the socket may be accelerated, or those that it accepts. It marks it, if it is not.
func mayBeAccelerated(c syscall.Conn) bool {
	if raw, err := c.SyscallConn(); err == nil && mark("tcp", raw, nil) {
		return true
	}
	sums.unsupported()
	return everMarked.Load()
}

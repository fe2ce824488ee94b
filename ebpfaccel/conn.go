package ebpfaccel

import (
	"net"
	"sync"
	"syscall"
	"time"
	"weak"
)

// Wrap returns a connection with the methods of c that an accelerated connection can be used by, or c itself if it cannot be
// accelerated: it is none of TCP, or no socket of this process could be marked yet. What the wrapper hides makes the kernel move
// bytes from one socket to another by splice(2), which stalls for ever if the bytes came past TCP: that c is a *net.TCPConn, and
// its methods ReadFrom and WriteTo.
//
// The wrapper has CloseRead, CloseWrite, SyscallConn and the setters of a *net.TCPConn for keep-alive, delay, linger and buffers.
func Wrap(c net.Conn) net.Conn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	if !mayBeAccelerated(tcp) {
		return c
	}
	return newConn(tcp)
}

// A conn is a connection that may be accelerated. It does not embed the other one, whose methods would be seen then.
type conn struct {
	tcp  *net.TCPConn
	mu   sync.Mutex // guards told
	told report     // what of it is in the sums
}

func (c *conn) Read(b []byte) (int, error)               { return c.tcp.Read(b) }
func (c *conn) Write(b []byte) (int, error)              { return c.tcp.Write(b) }
func (c *conn) CloseRead() error                         { return c.tcp.CloseRead() }
func (c *conn) CloseWrite() error                        { return c.tcp.CloseWrite() }
func (c *conn) LocalAddr() net.Addr                      { return c.tcp.LocalAddr() }
func (c *conn) RemoteAddr() net.Addr                     { return c.tcp.RemoteAddr() }
func (c *conn) SetDeadline(t time.Time) error            { return c.tcp.SetDeadline(t) }
func (c *conn) SetReadDeadline(t time.Time) error        { return c.tcp.SetReadDeadline(t) }
func (c *conn) SetWriteDeadline(t time.Time) error       { return c.tcp.SetWriteDeadline(t) }
func (c *conn) SetKeepAlive(on bool) error               { return c.tcp.SetKeepAlive(on) }
func (c *conn) SetKeepAlivePeriod(d time.Duration) error { return c.tcp.SetKeepAlivePeriod(d) }
func (c *conn) SetKeepAliveConfig(config net.KeepAliveConfig) error {
	return c.tcp.SetKeepAliveConfig(config)
}
func (c *conn) SetLinger(seconds int) error    { return c.tcp.SetLinger(seconds) }
func (c *conn) SetNoDelay(on bool) error       { return c.tcp.SetNoDelay(on) }
func (c *conn) SetReadBuffer(bytes int) error  { return c.tcp.SetReadBuffer(bytes) }
func (c *conn) SetWriteBuffer(bytes int) error { return c.tcp.SetWriteBuffer(bytes) }

// Close closes the connection.
func (c *conn) Close() error {
	c.account()
	open.remove(weak.Make(c))
	return c.tcp.Close()
}

// SyscallConn gives access to the socket, for options. It must not be used to splice from it.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	raw, err := c.tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	// Package os would splice from what has a method PollFD.
	return rawConn{raw}, nil
}

type rawConn struct {
	syscall.RawConn
}

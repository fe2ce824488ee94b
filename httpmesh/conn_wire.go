package httpmesh

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
)

// traffic counts the bytes of a connection below TLS. What did not change while a request failed was not sent.
type traffic struct {
	read, written atomic.Int64
	reading       atomic.Bool // a Read has begun and not ended
}

func (t *traffic) receive(conn net.Conn, p []byte) (int, error) {
	t.reading.Store(true)
	n, err := conn.Read(p)
	t.reading.Store(false)
	t.read.Add(int64(n))
	return n, err
}

func (t *traffic) send(conn net.Conn, p []byte) (int, error) {
	n, err := conn.Write(p)
	t.written.Add(int64(n))
	return n, err
}

// counted returns the connection such that its traffic is counted. A TCP connection keeps all it can do.
func counted(conn net.Conn, t *traffic) net.Conn {
	if tcp, ok := conn.(*net.TCPConn); ok {
		return &tcpWire{TCPConn: tcp, traffic: t}
	}
	return &wire{Conn: conn, traffic: t}
}

// wire is any connection.
type wire struct {
	net.Conn
	traffic *traffic
}

func (w *wire) Read(p []byte) (int, error)  { return w.traffic.receive(w.Conn, p) }
func (w *wire) Write(p []byte) (int, error) { return w.traffic.send(w.Conn, p) }

// CloseWrite is for tunnels, one side of which may end first.
func (w *wire) CloseWrite() error {
	if c, ok := w.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return fmt.Errorf("httpmesh: CloseWrite: %w", errors.ErrUnsupported)
}

// tcpWire is a TCP connection. Its ReadFrom lets the kernel send files, and all else of it is promoted.
type tcpWire struct {
	*net.TCPConn
	traffic *traffic
}

func (w *tcpWire) Read(p []byte) (int, error)  { return w.traffic.receive(w.TCPConn, p) }
func (w *tcpWire) Write(p []byte) (int, error) { return w.traffic.send(w.TCPConn, p) }

func (w *tcpWire) ReadFrom(r io.Reader) (int64, error) {
	n, err := w.TCPConn.ReadFrom(r)
	w.traffic.written.Add(n)
	return n, err
}

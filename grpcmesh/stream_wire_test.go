package grpcmesh

import (
	"context"
	"encoding/binary"
	"net"
	"reflect"
	"sync"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
)

// wired is a listener whose connections handlers can break, and reset single streams of.
type wired struct{ net.Listener }

func (l wired) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &wire{Conn: c}, nil
}

// wire is a connection of a server. It is the address of its peer, so that handlers find it.
type wire struct {
	net.Conn
	mu     sync.Mutex // guards what follows
	head   []byte     // of the frame that is being written
	left   int        // of its payload
	resets []byte     // to be written after it
}

func (w *wire) RemoteAddr() net.Addr { return w }
func (w *wire) Network() string      { return w.Conn.RemoteAddr().Network() }
func (w *wire) String() string       { return w.Conn.RemoteAddr().String() }

// wireOf returns the connection that a handler is called over.
func wireOf(ctx context.Context) *wire {
	p, _ := peer.FromContext(ctx)
	return p.Addr.(*wire)
}

// reset writes a frame that resets the stream of a handler, which gRPC will not do whatever the handler returns.
func (w *wire) reset(ctx context.Context, code http2.ErrCode) {
	const payload = 4
	id := reflect.ValueOf(grpc.ServerTransportStreamFromContext(ctx)).Elem().FieldByName("id").Uint()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.resets = append(w.resets, 0, 0, payload, byte(http2.FrameRSTStream), 0)
	w.resets = binary.BigEndian.AppendUint32(w.resets, uint32(id))
	w.resets = binary.BigEndian.AppendUint32(w.resets, uint32(code))
	_ = w.interject()
}

// interject writes resets if no frame is half written. w.mu is held.
func (w *wire) interject() error {
	if len(w.resets) == 0 || w.left > 0 || len(w.head) > 0 {
		return nil
	}
	frames := w.resets
	w.resets = nil
	_, err := w.Conn.Write(frames)
	return err
}

func (w *wire) Write(b []byte) (int, error) {
	const headLen = 9
	w.mu.Lock()
	defer w.mu.Unlock()
	for rest := b; len(rest) > 0; {
		if w.left > 0 {
			n := min(w.left, len(rest))
			w.left, rest = w.left-n, rest[n:]
			continue
		}
		n := min(headLen-len(w.head), len(rest))
		w.head, rest = append(w.head, rest[:n]...), rest[n:]
		if len(w.head) == headLen {
			w.left = int(w.head[0])<<16 | int(w.head[1])<<8 | int(w.head[2])
			w.head = w.head[:0]
		}
	}
	n, err := w.Conn.Write(b)
	if err == nil {
		err = w.interject()
	}
	return n, err
}

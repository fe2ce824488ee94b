package grpcinterop

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/proto"
)

// frames is a server that answers every call as large_unary wants it, and breaks HTTP/2 on the way in the manner of a
// test case. It looks at frames only, so that nothing is put right behind its back.
type frames struct {
	addr   string
	answer func(*link, *exchange) []step // to a complete request
	begin  func(*link)                   // if set, called when a connection is made

	running sync.WaitGroup
	mu      sync.Mutex // guards what follows
	links   []*link    // all connections ever made
}

// link is a connection. Its goroutine alone uses it until it is closed.
type link struct {
	*http2.Framer
	conn     net.Conn
	header   bytes.Buffer
	encoder  *hpack.Encoder
	window   int // how much data may be sent on all streams
	initial  int // and on a new one
	streams  map[uint32]*exchange
	order    []*exchange // those of streams, as they came
	complete int         // requests
	limited  bool        // the client knows that one stream at a time is allowed
	most     int         // streams that were open at a time since
	pings    int         // that are not acknowledged
	closed   chan struct{}
}

// exchange is a stream whose answer is not over.
type exchange struct {
	id     uint32
	window int
	steps  []step
}

// step is part of an answer: either data or something else.
type step struct {
	data []byte
	do   func()
}

// serveFrames starts a server with a behaviour, which is closed at the end of the test at the latest.
func serveFrames(t *testing.T, begin func(*link), answer func(*link, *exchange) []step) *frames {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &frames{addr: l.Addr().String(), answer: answer, begin: begin}
	f.running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			k := &link{Framer: http2.NewFramer(conn, conn), conn: conn, window: 65535, initial: 65535, streams: map[uint32]*exchange{}, closed: make(chan struct{})}
			k.encoder = hpack.NewEncoder(&k.header)
			f.mu.Lock()
			f.links = append(f.links, k)
			f.mu.Unlock()
			f.running.Go(func() { f.serve(k) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		for _, k := range f.made() {
			k.conn.Close()
		}
		f.running.Wait()
	})
	return f
}

// made returns the connections made so far.
func (f *frames) made() []*link {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.links
}

// complete returns how many requests there were, after the client has closed its connections.
func (f *frames) complete() (n int) {
	for _, k := range f.made() {
		<-k.closed
		n += k.complete
	}
	return n
}

// serve ends when the client closes the connection, or breaks the protocol.
func (f *frames) serve(k *link) {
	defer close(k.closed)
	defer k.conn.Close()
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(k.conn, preface); err != nil {
		return
	}
	_ = k.WriteSettings() // here and below: what cannot be written ends the reading, too
	if f.begin != nil {
		f.begin(k)
	}
	for {
		frame, err := k.ReadFrame()
		if err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			k.settings(frame)
		case *http2.WindowUpdateFrame:
			if x := k.streams[frame.StreamID]; x != nil {
				x.window += int(frame.Increment)
			} else if frame.StreamID == 0 {
				k.window += int(frame.Increment)
			}
		case *http2.PingFrame:
			if frame.IsAck() {
				k.pings--
			} else {
				_ = k.WritePing(true, frame.Data)
			}
		case *http2.HeadersFrame:
			x := &exchange{id: frame.StreamID, window: k.initial}
			k.streams[x.id], k.order = x, append(k.order, x)
			if k.limited {
				k.most = max(k.most, len(k.streams))
			}
		case *http2.DataFrame:
			if n := uint32(len(frame.Data())); n > 0 {
				_ = k.WriteWindowUpdate(0, n)
				_ = k.WriteWindowUpdate(frame.StreamID, n)
			}
			if x := k.streams[frame.StreamID]; x != nil && frame.StreamEnded() {
				k.complete++
				x.steps = f.answer(k, x)
			}
		case *http2.RSTStreamFrame:
			k.drop(frame.StreamID)
		}
		k.flush()
	}
}

func (k *link) settings(frame *http2.SettingsFrame) {
	if frame.IsAck() {
		return
	}
	if n, ok := frame.Value(http2.SettingInitialWindowSize); ok {
		for _, x := range k.order {
			x.window += int(n) - k.initial
		}
		k.initial = int(n)
	}
	_ = k.WriteSettingsAck()
}

// drop forgets a stream.
func (k *link) drop(id uint32) {
	for i, x := range k.order {
		if x.id == id {
			k.order = append(k.order[:i:i], k.order[i+1:]...)
			delete(k.streams, id)
			return
		}
	}
}

// flush goes on with all answers as far as the client's windows allow.
func (k *link) flush() {
	for _, x := range k.order {
		for len(x.steps) > 0 {
			s := &x.steps[0]
			if s.do == nil {
				n := min(len(s.data), 16384, x.window, k.window)
				if n <= 0 && len(s.data) > 0 {
					break
				}
				_ = k.WriteData(x.id, false, s.data[:n])
				s.data, x.window, k.window = s.data[n:], x.window-n, k.window-n
				if len(s.data) > 0 {
					continue
				}
			}
			x.steps = x.steps[1:]
			if s.do != nil {
				s.do()
			}
		}
	}
}

// headers returns the step that begins an answer.
func (k *link) headers(x *exchange) step {
	return step{do: func() { k.write(x, false, ":status", "200", "content-type", "application/grpc") }}
}

// trailers returns the step that ends an answer well.
func (k *link) trailers(x *exchange) step {
	return step{do: func() {
		k.write(x, true, "grpc-status", "0")
		k.drop(x.id)
	}}
}

// reset returns the step that breaks an answer off, without saying that anything is wrong.
func (k *link) reset(x *exchange) step {
	return step{do: func() {
		_ = k.WriteRSTStream(x.id, http2.ErrCodeNo)
		k.drop(x.id)
	}}
}

// goaway returns the step that announces that the stream is the last one.
func (k *link) goaway(x *exchange) step {
	return step{do: func() { _ = k.WriteGoAway(x.id, http2.ErrCodeNo, nil) }}
}

// ping returns the step that asks whether the client is there.
func (k *link) ping() step {
	return step{do: func() {
		k.pings++
		_ = k.WritePing(false, [8]byte{byte(k.pings)})
	}}
}

func (k *link) write(x *exchange, end bool, fields ...string) {
	k.header.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = k.encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}) // into memory
	}
	_ = k.WriteHeaders(http2.HeadersFrameParam{StreamID: x.id, BlockFragment: k.header.Bytes(), EndHeaders: true, EndStream: end})
}

// message is the answer that large_unary wants, as it goes over the wire.
var message = func() []byte {
	b, err := proto.Marshal(&testpb.SimpleResponse{Payload: &testpb.Payload{Body: make([]byte, 314159)}})
	if err != nil {
		panic(err)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(b))), b...)
}()

package grpcmesh_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"

	"github.com/zerohop/zerohop/internal/echopb"
)

// script writes the answer to a call.
type script func(w *frames, stream uint32)

// frames is one connection of a server that speaks HTTP/2 frame by frame, and so can say what no library would.
type frames struct {
	*http2.Framer
	conn net.Conn
	said string // the last data that came
	text bytes.Buffer
	enc  *hpack.Encoder
}

// framed is a server of frames.
type framed struct {
	addr  string
	conns atomic.Int64 // accepted
	calls atomic.Int64
	pings atomic.Int64 // that ask for an answer
	// answer is what calls get.
	answer atomic.Pointer[script]

	mu    sync.Mutex // guards heard
	heard bytes.Buffer
}

// said returns the headers and data of all calls in one text.
func (s *framed) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heard.String()
}

func (s *framed) note(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard.WriteString(text)
}

// frameServer starts a server of frames, which is stopped at the end of the test.
func frameServer(t *testing.T, answer script) *framed {
	t.Helper()
	l := port(t)
	s := &framed{addr: l.Addr().String()}
	s.answer.Store(&answer)
	var work sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[conn] = true
			mu.Unlock()
			s.conns.Add(1)
			work.Go(func() {
				defer conn.Close()
				s.serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for conn := range open {
			conn.Close()
		}
		mu.Unlock()
		work.Wait()
	})
	return s
}

// serve answers every request when it has arrived in full, one after the other.
func (s *framed) serve(conn net.Conn) {
	if _, err := io.CopyN(io.Discard, conn, int64(len(http2.ClientPreface))); err != nil {
		return
	}
	w := &frames{Framer: http2.NewFramer(conn, conn), conn: conn}
	w.enc = hpack.NewEncoder(&w.text)
	w.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = w.WriteSettings()
	for {
		frame, err := w.ReadFrame()
		if err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				_ = w.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !frame.IsAck() {
				s.pings.Add(1)
				_ = w.WritePing(true, frame.Data)
			}
		case *http2.MetaHeadersFrame:
			for _, f := range frame.Fields {
				s.note(f.Name + ": " + f.Value + "\n")
			}
		case *http2.DataFrame:
			w.said = string(frame.Data())
			s.note(w.said)
			if frame.StreamEnded() {
				s.calls.Add(1)
				_ = w.WriteWindowUpdate(0, frame.Length) // or a connection is full after 13,000 calls
				(*s.answer.Load())(w, frame.StreamID)
			}
		}
	}
}

// headers writes a block of header fields, given as names and values, in as many frames as it takes.
func (w *frames) headers(stream uint32, end bool, fields ...string) {
	w.text.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = w.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	const most = 16 << 10
	block := w.text.Bytes()
	first := block[:min(most, len(block))]
	block = block[len(first):]
	_ = w.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: first, EndStream: end, EndHeaders: len(block) == 0})
	for len(block) > 0 {
		next := block[:min(most, len(block))]
		block = block[len(next):]
		_ = w.WriteContinuation(stream, len(block) == 0, next)
	}
}

// begin writes the headers that a gRPC answer begins with.
func (w *frames) begin(stream uint32) {
	w.headers(stream, false, ":status", "200", "content-type", "application/grpc")
}

// reply writes a message of a gRPC answer.
func (w *frames) reply(stream uint32) {
	message, _ := proto.Marshal(&echopb.SayReply{Text: "framed"})
	_ = w.WriteData(stream, false, append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...))
}

// good is the script of a server with nothing wrong.
func good(w *frames, stream uint32) {
	w.begin(stream)
	w.reply(stream)
	w.headers(stream, true, "grpc-status", "0")
}

// only is the script of a server that sends nothing but trailers.
func only(fields ...string) script {
	return func(w *frames, stream uint32) {
		w.headers(stream, true, append([]string{":status", "200", "content-type", "application/grpc"}, fields...)...)
	}
}

// html is the script of a server that does not speak gRPC.
func html(status string) script {
	return func(w *frames, stream uint32) {
		w.headers(stream, false, ":status", status, "content-type", "text/html")
		_ = w.WriteData(stream, true, []byte("<h1>sorry</h1>"))
	}
}

// trailers is the script of a server whose reply is fine and whose trailers are as given.
func trailers(fields ...string) script {
	return func(w *frames, stream uint32) {
		w.begin(stream)
		w.reply(stream)
		w.headers(stream, true, fields...)
	}
}

// raw is the script of a server that sends bytes where a message should be, and then trailers.
func raw(data string, fields ...string) script {
	return func(w *frames, stream uint32) {
		w.begin(stream)
		_ = w.WriteData(stream, false, []byte(data))
		w.headers(stream, true, fields...)
	}
}

// resets is the script of a server that resets streams.
func resets(code http2.ErrCode) script {
	return func(w *frames, stream uint32) { _ = w.WriteRSTStream(stream, code) }
}

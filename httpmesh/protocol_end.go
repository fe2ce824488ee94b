package httpmesh

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"strings"
	"sync"

	"github.com/zerohop/zerohop/resilience"
)

// errNoStatus is the error of an RPC whose answer ends where it should say how the RPC went.
var errNoStatus = errors.New("httpmesh: answer ends without a status")

// Flags of the envelope around a message of a stream.
const (
	compressed     = 1
	endOfConnect   = 2
	endOfGRPCWeb   = 0x80
	envelopeHeader = 5 // flags and length
)

// endLimit bounds what of the last message of a stream is kept to find its status. A longer one is not looked at.
const endLimit = 4 << 10

// ending finds out how an RPC ends whose answer has begun: what its node did is known only then. It sees the answer
// pass on its way to the caller, and keeps nothing but the end.
type ending struct {
	protocol protocol
	resp     *http.Response

	mu     sync.Mutex           // guards what follows: a body may be closed while it is read
	head   [envelopeHeader]byte // of the present envelope
	filled int                  // of head
	left   int64                // of the message after head
	last   []byte               // message
	over   bool                 // the last message was seen
}

// watched returns the ending of an answer that is yet to come, nil if the headers have said all.
func (p protocol) watched(resp *http.Response) *ending {
	if p == plain || p == connectUnary || resp.StatusCode != http.StatusOK || resp.Header["Grpc-Status"] != nil {
		return nil
	}
	t := first(resp.Header["Content-Type"])
	switch {
	case p == grpc && strings.HasPrefix(t, "application/grpc"),
		p == connectStream && strings.HasPrefix(t, "application/connect+"),
		p == grpcWeb && strings.HasPrefix(t, "application/grpc-web") && !strings.HasPrefix(t, "application/grpc-web-text"):
		return &ending{protocol: p, resp: resp}
	}
	return nil
}

// saw takes note of a piece of the answer.
func (e *ending) saw(b []byte) {
	if e.protocol == grpc { // which ends in trailers
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(b) > 0 && !e.over {
		if e.filled < envelopeHeader {
			n := copy(e.head[e.filled:], b)
			e.filled += n
			b = b[n:]
			if e.filled < envelopeHeader {
				return
			}
			e.left = int64(binary.BigEndian.Uint32(e.head[1:]))
		}
		n := min(e.left, int64(len(b)))
		if e.isLast() && e.short() {
			e.last = append(e.last, b[:n]...)
		}
		b = b[n:]
		if e.left -= n; e.left == 0 {
			e.over = e.isLast()
			e.filled = 0
		}
	}
}

func (e *ending) isLast() bool {
	if e.protocol == grpcWeb {
		return e.head[0]&endOfGRPCWeb != 0
	}
	return e.head[0]&endOfConnect != 0
}

// short reports whether the message is kept if it is the last.
func (e *ending) short() bool { return binary.BigEndian.Uint32(e.head[1:]) <= endLimit }

// text returns the last message, false if it is too long or encoded in a way not known here.
func (e *ending) text() ([]byte, bool) {
	if !e.short() {
		return nil, false
	}
	if e.head[0]&compressed == 0 {
		return e.last, true
	}
	encoding := "Connect-Content-Encoding"
	if e.protocol == grpcWeb {
		encoding = "Grpc-Encoding"
	}
	return inflate(e.last, first(e.resp.Header[encoding]), endLimit)
}

// status returns how the RPC went, as far as is known: eof says whether the answer has come to its end.
func (e *ending) status(eof bool) (status, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.protocol == grpc && eof:
		if s, ok := statusIn(e.resp.Trailer); ok {
			return s, nil
		}
		return status{}, errNoStatus
	case !e.over && eof:
		return status{}, errNoStatus
	case !e.over:
		return status{}, nil
	}
	text, ok := e.text()
	if !ok {
		return status{}, nil
	}
	if e.protocol == connectStream {
		var end struct{ Error connectStatus }
		if err := json.Unmarshal(text, &end); err != nil {
			return status{}, fmt.Errorf("httpmesh: end of stream: %w", err)
		}
		s, _ := end.Error.status() // a code that is not known tells as little as none
		return s, nil
	}
	// A block of trailers has no empty line at its end, and need not have any.
	h, err := textproto.NewReader(bufio.NewReader(io.MultiReader(bytes.NewReader(text), strings.NewReader("\r\n\r\n")))).ReadMIMEHeader()
	if s, ok := statusIn(http.Header(h)); ok && err == nil {
		return s, nil
	}
	return status{}, errNoStatus
}

// outcome returns what the end of the answer means for its node, with an error unless that is a success. ctx is that of
// the attempt.
func (e *ending) outcome(ctx context.Context, eof bool) (resilience.Outcome, error) {
	s, err := e.status(eof)
	if err != nil {
		return resilience.Failure, err
	}
	o := s.verdict(0).Outcome
	if s.code == codeDeadlineExceeded && due(ctx) {
		o = resilience.Neutral // the endpoint was answering when its caller had no more time
	}
	if o == resilience.Success {
		return o, nil
	}
	return o, fmt.Errorf("httpmesh: RPC ended with code %d: %s", s.code, s.text)
}

package httpmesh

import (
	"context"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// The codes that are told apart here; the numbers are those of gRPC.
const (
	codeUnknown           = 2
	codeDeadlineExceeded  = 4
	codeResourceExhausted = 8
)

// connectCodes are the names that Connect has for the codes of gRPC.
var connectCodes = map[string]uint32{
	"canceled": 1, "unknown": codeUnknown, "invalid_argument": 3, "deadline_exceeded": codeDeadlineExceeded,
	"not_found": 5, "already_exists": 6, "permission_denied": 7, "resource_exhausted": codeResourceExhausted,
	"failed_precondition": 9, "aborted": 10, "out_of_range": 11, "unimplemented": 12, "internal": 13,
	"unavailable": 14, "data_loss": 15, "unauthenticated": 16,
}

// status is how an RPC went, in the words of its protocol.
type status struct {
	code uint32
	text string
}

// connectStatus is an error of Connect.
type connectStatus struct{ Code, Message string }

// status is false if that is no error of Connect.
func (c connectStatus) status() (status, bool) {
	code, ok := connectCodes[c.Code]
	return status{code: code, text: c.Message}, ok
}

// statusIn returns the status in headers or trailers of gRPC.
func statusIn(h http.Header) (s status, ok bool) {
	v := h["Grpc-Status"]
	if len(v) == 0 {
		return status{}, false
	}
	code, err := strconv.ParseUint(v[0], 10, 32)
	if err != nil {
		code = codeUnknown
	}
	return status{code: uint32(code), text: first(h["Grpc-Message"])}, true
}

// verdict returns what the status means for the attempt. pushback is the pause the server asked for.
func (s status) verdict(pushback time.Duration) resilience.Verdict {
	if s.code == codeResourceExhausted && tooLarge(s.text) {
		return resilience.Verdict{Outcome: resilience.Success} // the endpoint has done its part
	}
	return resilience.GRPCStatus(s.code, pushback)
}

// tooLarge reports whether a text says that a message was larger than its receiver or sender allows. Only the text (of
// connect-go, and of gRPC in Go, C and Java) tells this from an endpoint that has too much to do.
func tooLarge(text string) bool {
	return strings.Contains(text, "larger than max") || strings.Contains(text, "larger than configured max") ||
		strings.Contains(text, "exceeds maximum size")
}

// judge returns what the headers of an answer to the request of an attempt say about it, and what its body does where it
// is nothing but an error. An answer without a code of its protocol is that of somebody who does not speak it, such as a
// proxy, and is judged by its HTTP status. That repeats what Connect and gRPC take for UNAVAILABLE then.
func (p protocol) judge(req *http.Request, resp *http.Response) resilience.Verdict {
	var (
		s  status
		ok bool
	)
	after := retryAfter(resp)
	switch p {
	case connectUnary:
		s, ok = connectError(resp)
	case grpc, grpcWeb:
		h := resp.Header
		// Servers over net/http send every status in trailers. If nothing comes before them, nothing was answered.
		if p == grpc && resp.StatusCode == http.StatusOK && h["Grpc-Status"] == nil && !p.endless(req) && preview(resp, 0) != nil {
			h = resp.Trailer
		}
		if s, ok = statusIn(h); ok {
			after = resilience.Pushback(h["Grpc-Retry-Pushback-Ms"])
		}
	}
	if !ok {
		return resilience.HTTPStatus(resp.StatusCode, after)
	}
	if s.code == codeDeadlineExceeded {
		outlast(req.Context())
	}
	return s.verdict(after)
}

// ahead is how much earlier than its caller a server may find that time is up: it counts from when it was told, and in
// milliseconds.
const ahead = 20 * time.Millisecond

// outlast waits for the end of a context that is about to reach its deadline. A server that was told the deadline
// answers a hair before it, and then what ended the attempt is that its caller had no more time.
func outlast(ctx context.Context) {
	if due(ctx) {
		<-ctx.Done()
	}
}

// due reports whether the deadline of the context has passed or is about to.
func due(ctx context.Context) bool {
	d, ok := ctx.Deadline()
	return ok && time.Until(d) < ahead
}

// connectError returns the error that the answer of a unary call is. It is false if the HTTP status says enough, or if
// the body tells no more.
func connectError(resp *http.Response) (s status, ok bool) {
	switch code := resp.StatusCode; {
	case code < 500 && code != http.StatusRequestTimeout && code != http.StatusTooManyRequests && code != statusClosed:
		return status{}, false
	case resp.ContentLength == 0:
		return status{}, false
	}
	if t, _, err := mime.ParseMediaType(first(resp.Header["Content-Type"])); err != nil || t != "application/json" {
		return status{}, false
	}
	var (
		data []byte
		e    connectStatus
	)
	if resp.ContentLength <= previewLimit {
		data = preview(resp, previewLimit)
	}
	text, ok := inflate(data, first(resp.Header["Content-Encoding"]), previewLimit)
	if data == nil || !ok {
		// Too long, too slow or in an encoding not known here. Of the codes that come as 500, "unknown" is what the protocol takes for an error
		// that has none, and nothing to hold against an endpoint.
		return status{code: codeUnknown}, resp.StatusCode == http.StatusInternalServerError
	}
	if json.Unmarshal(text, &e) != nil {
		return status{}, false
	}
	return e.status()
}

// statusClosed is what servers say to a caller that has gone: 499 is in no standard, and Connect's "canceled".
const statusClosed = 499

const (
	// previewLimit is how much of an error is read before the caller gets it. Few are longer; what is read stays in
	// memory until the caller has read it.
	previewLimit = 4 << 10
	// previewTime is how long to wait for that. Most errors arrive with their headers, as do first messages.
	previewTime = 50 * time.Millisecond
)

// preview returns the whole body of a response if it is not longer than the limit and there soon, else nil. The response
// keeps it.
func preview(resp *http.Response, limit int64) []byte {
	if resp.Body == nil || resp.Body == http.NoBody {
		return []byte{}
	}
	p := &previewed{ReadCloser: resp.Body, limit: limit, done: make(chan struct{})}
	resp.Body = p
	go p.fill() // ends with the body, which ends at the latest with the attempt or when it is closed
	timer := time.NewTimer(previewTime)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		return nil
	}
	if !p.whole {
		return nil
	}
	return p.data
}

// previewed is a body of which some was read before its owner asked.
type previewed struct {
	io.ReadCloser
	limit int64
	done  chan struct{} // closed when the following are set
	data  []byte
	whole bool  // nothing follows the data
	err   error // what follows it; nil if more data does
}

func (p *previewed) fill() {
	defer close(p.done)
	p.data, p.err = io.ReadAll(io.LimitReader(p.ReadCloser, p.limit+1))
	if p.err == nil && int64(len(p.data)) <= p.limit {
		p.whole, p.err = true, io.EOF
	}
}

func (p *previewed) Read(b []byte) (int, error) {
	<-p.done
	switch {
	case len(p.data) > 0:
		n := copy(b, p.data)
		p.data = p.data[n:]
		return n, nil
	case p.err != nil:
		return 0, p.err
	}
	return p.ReadCloser.Read(b)
}

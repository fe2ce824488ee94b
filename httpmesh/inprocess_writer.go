package httpmesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// headLimit is how much of a body is kept until the head of the answer is sent, as in net/http: answers that are no longer say
// how long they are.
const headLimit = 4 << 10

// errandWriter is the http.ResponseWriter of a handler in this process. It can do what that of HTTP/2 can.
type errandWriter struct {
	errand   *errand
	header   http.Header
	status   int         // 0 before WriteHeader
	head     http.Header // as it was then
	length   int64       // that the handler has said, -1 if none
	written  int64
	short    bool   // what came before a write that was too long is less than length
	kept     []byte // of the body, before sent
	declared []string
	sent     bool
	lost     bool // something could not be sent
	over     atomic.Bool
}

func (w *errandWriter) Header() http.Header { return w.header }

func (w *errandWriter) WriteHeader(status int) {
	switch {
	case status < 100 || status > 999:
		panic(fmt.Sprintf("invalid WriteHeader code %v", status)) // as net/http does
	case w.over.Load():
		log.Printf("httpmesh: WriteHeader after the handler has returned")
	case w.status != 0:
		log.Printf("httpmesh: superfluous WriteHeader(%d) after WriteHeader(%d)", status, w.status)
	case status < 200 && status != http.StatusSwitchingProtocols:
		w.inform(status)
	default:
		w.status, w.head = status, w.header.Clone()
		if text := w.head.Get("Content-Length"); text != "" {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil || n < 0 {
				log.Printf("httpmesh: invalid Content-Length %q", text)
				w.head.Del("Content-Length")
				return
			}
			w.length = n
		}
	}
}

// inform passes an informational answer on to who traces the request.
func (w *errandWriter) inform(status int) {
	t := w.errand.trace
	switch {
	case t == nil:
	case status == http.StatusContinue:
		if t.Got100Continue != nil {
			t.Got100Continue()
		}
	case t.Got1xxResponse != nil:
		if err := t.Got1xxResponse(status, textproto.MIMEHeader(carried(w.header, notForCallers))); err != nil {
			w.errand.abort(err)
		}
	}
}

func (w *errandWriter) Write(p []byte) (int, error) {
	if err := w.admit(len(p)); err != nil {
		return 0, err
	}
	if !w.sent && len(w.kept)+len(p) <= headLimit {
		w.kept = append(w.kept, p...)
		return len(p), nil
	}
	return w.write(p)
}

func (w *errandWriter) WriteString(s string) (int, error) {
	if w.sent || len(w.kept)+len(s) > headLimit {
		return w.Write([]byte(s))
	}
	if err := w.admit(len(s)); err != nil {
		return 0, err
	}
	w.kept = append(w.kept, s...)
	return len(s), nil
}

// admit reports why n bytes more may not be written.
func (w *errandWriter) admit(n int) error {
	if w.over.Load() {
		return errors.New("httpmesh: Write after the handler has returned")
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if n == 0 {
		return nil
	}
	if !bodyAllowed(w.status) {
		return http.ErrBodyNotAllowed
	}
	before := w.written
	if w.written += int64(n); w.length >= 0 && w.written > w.length {
		w.short = w.short || before < w.length
		return http.ErrContentLength
	}
	return nil
}

// write sends what does not fit into the buffer, and what that holds.
func (w *errandWriter) write(p []byte) (int, error) {
	k := 0
	if !w.sent {
		start := p
		if len(w.kept) > 0 {
			k = min(len(p), headLimit-len(w.kept))
			w.kept = append(w.kept, p[:k]...)
			start = w.kept
		}
		w.send(start, false)
	}
	if w.bodiless() {
		return len(p), nil
	}
	if len(w.kept) > 0 {
		if _, err := w.errand.down.Write(w.kept); err != nil {
			w.lost = true
			return 0, err
		}
		w.kept = nil
	}
	n, err := w.errand.down.Write(p[k:])
	w.lost = w.lost || err != nil
	return k + n, err
}

// bodiless reports whether the answer has no body, whatever is written.
func (w *errandWriter) bodiless() bool {
	return w.errand.head || !bodyAllowed(w.status)
}

func (w *errandWriter) Flush() { _ = w.FlushError() }

// FlushError sends what was written so far.
func (w *errandWriter) FlushError() error {
	if w.over.Load() {
		return errGone
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.sent {
		return w.errand.down.refused()
	}
	_, err := w.write(nil)
	return err
}

// CloseNotify is for http.CloseNotifier, which frameworks still take for granted: a value comes when the caller has gone away or
// the handler has returned.
func (w *errandWriter) CloseNotify() <-chan bool {
	gone := make(chan bool, 1)
	context.AfterFunc(w.errand.in.Context(), func() { gone <- true })
	return gone
}

// EnableFullDuplex is for http.ResponseController: a handler can always read while it writes.
func (w *errandWriter) EnableFullDuplex() error { return nil }

// SetReadDeadline is for http.ResponseController.
func (w *errandWriter) SetReadDeadline(at time.Time) error {
	if up := w.errand.up; up != nil && !w.over.Load() {
		up.set(&up.reads, at)
	}
	return nil
}

// SetWriteDeadline is for http.ResponseController.
func (w *errandWriter) SetWriteDeadline(at time.Time) error {
	if down := &w.errand.down; !w.over.Load() {
		down.set(&down.writes, at)
	}
	return nil
}

// finish ends an answer whose handler has returned.
func (w *errandWriter) finish() {
	v := w.errand
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.lost || !w.sent && v.down.refused() != nil {
		w.fail()
		return
	}
	w.over.Store(true)
	if !w.sent {
		w.send(w.kept, true)
		if !w.bodiless() && len(w.kept) > 0 {
			v.down.give(w.kept)
		}
	}
	if w.bodiless() {
		return
	}
	if w.length >= 0 && (w.written < w.length || w.short) {
		v.down.end(io.ErrUnexpectedEOF)
		return
	}
	v.trailer = w.trailers()
	v.down.end(io.EOF)
}

// fail breaks the answer off.
func (w *errandWriter) fail() {
	w.over.Store(true)
	w.errand.answer(nil, errBroken)
	w.errand.down.end(io.ErrUnexpectedEOF)
}

// give makes the data the stream's own, which has none.
func (s *stream) give(data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil {
		s.data = data
		s.change.Broadcast()
	}
}

// send hands the head of the answer to the caller. start is how its body begins, all of it if whole.
func (w *errandWriter) send(start []byte, whole bool) {
	w.sent = true
	h, head := carried(w.head, notForCallers), w.head
	resp := &http.Response{
		StatusCode: w.status, Status: strconv.Itoa(w.status) + " " + http.StatusText(w.status), Proto: "HTTP/2.0", ProtoMajor: 2,
		Header: h, Body: http.NoBody, ContentLength: -1, Request: w.errand.out,
	}
	if _, ok := head["Date"]; !ok {
		h["Date"] = []string{time.Now().UTC().Format(http.TimeFormat)}
	}
	if http.StatusText(w.status) == "" {
		resp.Status += "status code " + strconv.Itoa(w.status)
	}
	w.declared = declared(head["Trailer"])
	unsaid := w.length < 0 && len(w.declared) == 0 && !hasPrefixed(w.header)
	if whole && unsaid && bodyAllowed(w.status) && (!w.errand.head || len(start) > 0) {
		w.length = int64(len(start))
		h["Content-Length"] = []string{strconv.Itoa(len(start))}
	}
	switch {
	case !bodyAllowed(w.status):
		delete(h, "Content-Length")
		if w.status == http.StatusNotModified {
			delete(h, "Content-Type")
		}
		if !w.errand.head {
			resp.ContentLength = 0
		}
	default:
		if _, ok := head["Content-Type"]; !ok && len(start) > 0 && head.Get("Content-Encoding") == "" {
			h["Content-Type"] = []string{http.DetectContentType(start)}
		}
		resp.ContentLength = w.length
	}
	if !w.bodiless() {
		for _, k := range w.declared {
			if resp.Trailer == nil {
				resp.Trailer = http.Header{}
			}
			resp.Trailer[k] = nil
		}
		if w.length != 0 || resp.Trailer != nil {
			resp.Body = &errandBody{errand: w.errand, left: w.length}
		}
	}
	if resp.Body == http.NoBody {
		w.errand.leave()
	}
	w.errand.answer(resp, nil)
}

// trailers returns those that the handler has set.
func (w *errandWriter) trailers() http.Header {
	if len(w.declared) == 0 && !hasPrefixed(w.header) {
		return nil
	}
	set := http.Header{}
	for k, values := range w.header {
		if rest, ok := strings.CutPrefix(k, http.TrailerPrefix); ok {
			k = http.CanonicalHeaderKey(rest)
		} else if k = http.CanonicalHeaderKey(k); !slices.Contains(w.declared, k) {
			continue
		}
		set[k] = values
	}
	return carried(set, nil)
}

func hasPrefixed(h http.Header) bool {
	for k := range h {
		if strings.HasPrefix(k, http.TrailerPrefix) {
			return true
		}
	}
	return false
}

// declared returns the names in Trailer headers.
func declared(values []string) (names []string) {
	for _, v := range values {
		for name := range strings.SplitSeq(v, ",") {
			switch name = http.CanonicalHeaderKey(textproto.TrimString(name)); name {
			case "", "Transfer-Encoding", "Content-Length", "Trailer":
			default:
				names = append(names, name)
			}
		}
	}
	return names
}

// bodyAllowed reports whether an answer of that status has a body (RFC 9110, section 6.4.1).
func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// What is about a connection, or said by the message itself, does not get across.
var (
	notForCallers  = []string{"Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade", "Trailer"}
	notForHandlers = append(slices.Clone(notForCallers), "Host", "Content-Length")
)

// carried returns a header as it comes out at the other end of a connection: a copy, with canonical names and without what
// cannot be written.
func carried(h http.Header, without []string) http.Header {
	c := make(http.Header, len(h)+3)
	all := make([]string, 0, len(h)+2)
	for k, values := range h {
		if len(values) == 0 || k == "" || strings.ContainsFunc(k, notToken) {
			continue
		}
		if k = http.CanonicalHeaderKey(k); slices.Contains(without, k) {
			continue
		}
		from := len(all)
		for _, v := range values {
			all = append(all, clean(v))
		}
		if own := all[from:len(all):len(all)]; c[k] == nil {
			c[k] = own
		} else { // under another spelling
			c[k] = append(c[k], own...)
		}
	}
	return c
}

// clean returns a value as net/http writes it.
func clean(v string) string {
	if strings.ContainsAny(v, "\r\n") {
		v = strings.NewReplacer("\n", " ", "\r", " ").Replace(v)
	}
	return textproto.TrimString(v)
}

package httpmesh

import (
	"bufio"
	"io"
	"net"
	"net/http"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// reply is the http.ResponseWriter that the handler of a service gets: it completes the header before that is written.
// It is embedded in types with the methods that handlers look for by assertion, each with one pointer in it, so that
// they need no memory of their own.
type reply struct {
	http.ResponseWriter
	handler *Handler
	inbound zerohop.Inbound
	visit   *zerohop.Visit // nil if there is no Admission
	status  int32          // 0 if the header is not complete
	version int32          // of HTTP
	begun   bool           // the header is complete
	refused bool           // by the Admission
	upgrade bool           // is asked for
	timing
}

// writer returns a with those methods that the http.ResponseWriter under it has.
func (a *reply) writer() http.ResponseWriter {
	switch a.ResponseWriter.(type) {
	case http.Hijacker: // HTTP/1
		return hijacker{flusher{a}}
	case interface { // HTTP/2
		http.Flusher
		http.Pusher
	}:
		return pusher{flusher{a}}
	case http.Flusher:
		return flusher{a}
	}
	return a
}

// begin completes the header of the answer with the given status. Those before the final one are let pass, and so is
// 101, with which HTTP ends.
func (a *reply) begin(code int) {
	if a.begun || code < 200 {
		if code == http.StatusSwitchingProtocols && a.visit != nil {
			a.visit.Leave(resilience.Success)
		}
		return
	}
	a.begun = true
	if code == http.StatusTooManyRequests || code >= 500 {
		a.handler.failed.Add(1)
	}
	if a.visit != nil {
		a.answered(code)
	}
	header := a.Header()
	if code >= 500 && !a.refused && first(header[RefusedHeader]) != "" {
		header.Set(RefusedHeader, below)
	}
	if (code == http.StatusTooManyRequests || code >= 500) && a.inbound.Spent() {
		header.Set(NoRetryHeader, "1")
	}
	if a.handler.o.Load != nil || a.meter != nil {
		a.report(header, code)
	}
	if a.handler.isDraining() && a.version < 3 {
		header.Set("Connection", "close") // on HTTP/2, net/http sends GOAWAY instead
	}
}

// end is the end of the request, whatever became of it.
func (a *reply) end() {
	if !a.begun { // its handler has panicked
		a.handler.failed.Add(1)
	}
	a.handler.ended.Add(1)
}

// refuse answers a request that cannot be served in time.
func (a *reply) refuse() {
	a.Header().Set(NoRetryHeader, noTime)
	http.Error(a, "no time left to serve the request", http.StatusGatewayTimeout)
}

// Unwrap is for http.ResponseController.
func (a *reply) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *reply) WriteHeader(code int) {
	a.begin(code)
	a.ResponseWriter.WriteHeader(code)
}

func (a *reply) Write(p []byte) (int, error) {
	a.begin(http.StatusOK)
	return a.ResponseWriter.Write(p)
}

// WriteString saves a copy of s where the writer below does.
func (a *reply) WriteString(s string) (int, error) {
	a.begin(http.StatusOK)
	return io.WriteString(a.ResponseWriter, s)
}

// FlushError is for http.ResponseController, whatever the writer below is.
func (a *reply) FlushError() error {
	a.begin(http.StatusOK)
	return http.NewResponseController(a.ResponseWriter).Flush()
}

type flusher struct{ *reply }

func (f flusher) Flush() { f.FlushError() }

// CloseNotify is here for frameworks that rely on it, though it is deprecated. Over a writer without it nothing is
// notified.
func (f flusher) CloseNotify() <-chan bool {
	if n, ok := f.ResponseWriter.(interface{ CloseNotify() <-chan bool }); ok {
		return n.CloseNotify()
	}
	return make(chan bool)
}

type pusher struct{ flusher }

func (p pusher) Push(target string, o *http.PushOptions) error {
	return p.ResponseWriter.(http.Pusher).Push(target, o)
}

type hijacker struct{ flusher }

func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := h.ResponseWriter.(http.Hijacker).Hijack()
	if err == nil {
		h.begun = true
		if h.visit != nil {
			h.visit.Leave(resilience.Success)
		}
	}
	return conn, rw, err
}

// ReadFrom lets the kernel copy files to connections where it can.
func (h hijacker) ReadFrom(src io.Reader) (n int64, err error) {
	if !h.begun {
		h.begin(http.StatusOK)
		defer func() { h.begun = n > 0 }() // else nothing was written yet, and the status may be another one
	}
	if r, ok := h.ResponseWriter.(io.ReaderFrom); ok {
		return r.ReadFrom(src)
	}
	return io.Copy(struct{ io.Writer }{h.ResponseWriter}, src)
}

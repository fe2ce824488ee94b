package httpmesh

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/zerohop/zerohop"
)

// respond makes the answer that the route has for the call.
func (x *exchange) respond(e *zerohop.RouteError) *http.Response {
	resp := &http.Response{
		StatusCode: e.Status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header, len(e.Headers)+3), Body: http.NoBody, Request: x.req,
	}
	h, text := resp.Header, e.Body
	for name, value := range e.Headers {
		h.Set(name, value)
	}
	if e.Injected {
		h.Set(FaultHeader, "abort")
		text = "zerohop: fault injected: " + e.Error() + "\n"
	}
	if x.protocol == grpc || x.protocol == grpcWeb { // whose errors are answers without messages
		resp.StatusCode, resp.Proto, resp.ProtoMajor, resp.ProtoMinor = http.StatusOK, "HTTP/2.0", 2, 0
		h.Set("Content-Type", first(x.req.Header["Content-Type"]))
		h.Set("Grpc-Status", strconv.FormatUint(uint64(e.Code), 10))
		h.Set("Grpc-Message", grpcMessage(strings.TrimSuffix(text, "\n")))
		text = ""
	}
	resp.Status = strings.TrimSpace(fmt.Sprintf("%d %s", resp.StatusCode, http.StatusText(resp.StatusCode)))
	if resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotModified {
		return resp
	}
	resp.ContentLength = int64(len(text))
	h.Set("Content-Length", strconv.Itoa(len(text)))
	if text != "" && h.Get("Content-Type") == "" {
		h.Set("Content-Type", "text/plain; charset=utf-8")
	}
	if text != "" && x.req.Method != http.MethodHead {
		resp.Body = io.NopCloser(strings.NewReader(text))
	}
	return resp
}

// grpcMessage encodes a text as gRPC wants it in headers: what is not printable ASCII, and "%", as bytes in hexadecimal.
func grpcMessage(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

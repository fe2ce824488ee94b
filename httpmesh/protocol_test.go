package httpmesh

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestProtocolsAreToldApart(t *testing.T) {
	for _, row := range []struct {
		name, method, url, contentType string
		version                        bool // Connect-Protocol-Version
		want                           protocol
	}{
		{"plain get", "GET", "http://orders/42", "", false, plain},
		{"plain get with a query", "GET", "http://orders/42?connect=v12&xconnect=v1", "", false, plain},
		{"plain post", "POST", "http://orders/", "application/json", false, plain},
		{"post of a form", "POST", "http://orders/", "application/x-www-form-urlencoded", false, plain},
		{"post of a text", "POST", "http://orders/", "text/plain", true, plain},
		{"put", "PUT", "http://orders/", "application/grpc", true, plain},
		{"no type", "POST", "http://orders/", "", true, plain},
		{"connect get", "GET", "http://orders/a.B/C?connect=v1&encoding=json&message=%7B%7D", "", false, connectUnary},
		{"connect get, last", "GET", "http://orders/a.B/C?encoding=json&message=%7B%7D&connect=v1", "", false, connectUnary},
		{"connect proto", "POST", "http://orders/a.B/C", "application/proto", true, connectUnary},
		{"connect json", "POST", "http://orders/a.B/C", "application/json; charset=utf-8", true, connectUnary},
		{"connect stream", "POST", "http://orders/a.B/C", "application/connect+proto", true, connectStream},
		{"connect stream without version", "POST", "http://orders/a.B/C", "application/connect+json", false, connectStream},
		{"grpc", "POST", "http://orders/a.B/C", "application/grpc", false, grpc},
		{"grpc with codec", "POST", "http://orders/a.B/C", "application/grpc+proto", false, grpc},
		{"grpc with parameter", "POST", "http://orders/a.B/C", "application/grpc;x=y", false, grpc},
		{"like grpc", "POST", "http://orders/a.B/C", "application/grpcx", false, plain},
		{"grpc-web", "POST", "http://orders/a.B/C", "application/grpc-web+proto", false, grpcWeb},
		{"grpc-web in text", "POST", "http://orders/a.B/C", "application/grpc-web-text", false, grpcWeb},
	} {
		t.Run(row.name, func(t *testing.T) {
			req := request(t.Context(), t, row.method, row.url, nil)
			if row.contentType != "" {
				req.Header.Set("Content-Type", row.contentType)
			}
			if row.version {
				req.Header.Set("Connect-Protocol-Version", "1")
			}
			if got := protocolOf(req); got != row.want {
				t.Errorf("protocolOf() = %d, want %d", got, row.want)
			}
		})
	}
}

// Plain HTTP must not pay for protocols it does not speak.
func TestTellingProtocolsApartAllocatesNothing(t *testing.T) {
	for _, req := range []*http.Request{
		request(t.Context(), t, http.MethodGet, "http://orders/?a=b&c=d", nil),
		request(t.Context(), t, http.MethodPost, "http://orders/", strings.NewReader("{}")),
	} {
		req.Header.Set("Content-Type", "application/json")
		got := testing.AllocsPerRun(100, func() {
			if protocolOf(req) != plain {
				t.Fatal("not plain")
			}
		})
		if got != 0 {
			t.Errorf("%s: protocolOf() allocates %v times, want 0", req.Method, got)
		}
	}
}

func TestStreamsAreThoseWhoseHeadersMayTakeTheirTime(t *testing.T) {
	pipe, _ := io.Pipe()
	known := strings.NewReader("message")
	for _, row := range []struct {
		name     string
		protocol protocol
		body     io.Reader
		want     bool
	}{
		{"upload over plain HTTP", plain, pipe, false},
		{"connect unary", connectUnary, known, false},
		{"connect, message known", connectStream, known, true},
		{"connect, messages to come", connectStream, pipe, true},
		{"grpc, message known", grpc, known, false},
		{"grpc, messages to come", grpc, pipe, true},
		{"grpc, no message", grpc, nil, false},
		{"grpc-web, messages to come", grpcWeb, pipe, true},
	} {
		req := request(t.Context(), t, http.MethodPost, "http://orders/", row.body)
		if got := row.protocol.stream(req); got != row.want {
			t.Errorf("%s: stream() = %v, want %v", row.name, got, row.want)
		}
	}
}

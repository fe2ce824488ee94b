package httpmesh

import (
	"net/http"
	"strings"
)

// protocol is what the parties of an exchange speak over HTTP. RPC protocols say how a call went by a code of their own:
// a Connect stream that failed, and every gRPC call that did, has the HTTP status 200.
type protocol uint8

const (
	plain         protocol = iota // HTTP alone
	connectUnary                  // connectrpc.com/docs/protocol: one message each way, without frames
	connectStream                 // the same, in frames
	grpc
	grpcWeb
)

// protocolOf returns the protocol of a request. For one of plain HTTP that costs a look at a header.
func protocolOf(req *http.Request) protocol {
	if req.Method == http.MethodGet {
		if req.URL.RawQuery != "" && asksConnect(req.URL.RawQuery) {
			return connectUnary
		}
		return plain
	}
	if req.Method != http.MethodPost {
		return plain
	}
	codec, ok := strings.CutPrefix(first(req.Header["Content-Type"]), "application/")
	switch {
	case !ok:
		return plain
	case strings.HasPrefix(codec, "connect+"):
		return connectStream
	case strings.HasPrefix(codec, "grpc-web"):
		return grpcWeb
	case codec == "grpc", strings.HasPrefix(codec, "grpc+"), strings.HasPrefix(codec, "grpc;"):
		return grpc
	case len(req.Header["Connect-Protocol-Version"]) > 0:
		return connectUnary
	}
	return plain
}

// asksConnect reports whether the query is that of a Connect call by GET.
func asksConnect(query string) bool {
	for param := range strings.SplitSeq(query, "&") {
		if param == "connect=v1" {
			return true
		}
	}
	return false
}

// stream reports whether the time until the headers of an answer depends on what the parties have to say rather than on
// how fast the endpoint is.
func (p protocol) stream(req *http.Request) bool {
	return p == connectStream || p.endless(req) || strings.HasPrefix(first(req.Header["Accept"]), "text/event-stream")
}

// endless reports whether the caller of an RPC goes on sending messages while it is under way: then their number and
// length are not known when it begins. Once sent, such a call is never repeated, as the caller may have acted on how it
// was going.
func (p protocol) endless(req *http.Request) bool {
	return p != plain && req.Body != nil && req.Body != http.NoBody && req.GetBody == nil && req.ContentLength <= 0
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

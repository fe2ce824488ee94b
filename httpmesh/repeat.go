package httpmesh

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/zerohop/zerohop"
)

// idempotent reports whether HTTP lets the request be executed more than once (RFC 9110, section 9.2.2), or
// its sender does by a key.
func idempotent(req *http.Request) bool {
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	// As for net/http, one without a value counts, and is not sent.
	_, key := req.Header["Idempotency-Key"]
	_, old := req.Header["X-Idempotency-Key"]
	return key || old
}

// once reports whether the request is sent no more than once, and its body as it is: tunnels and upgrades, and files that
// the kernel can send by itself.
func once(req *http.Request) bool {
	if req.Method == http.MethodConnect || first(req.Header["Upgrade"]) != "" {
		return true
	}
	_, file := req.Body.(*os.File)
	return file && req.GetBody == nil && req.ContentLength > 0 && req.URL.Scheme == "http"
}

// unsent reports whether the error says that the request did not leave: the connection was not made. The cause of the end
// of a context says nothing: that may be how another call failed.
func unsent(ctx context.Context, err error) bool {
	if cause := context.Cause(ctx); !errors.Is(ctx.Err(), cause) && errors.Is(err, cause) {
		return false
	}
	var (
		certificate *tls.CertificateVerificationError
		record      tls.RecordHeaderError
	)
	if errors.As(err, &record) && record.Conn == nil { // after the handshake, so perhaps after the request
		return false
	}
	return zerohop.DialFailed(err) || errors.As(err, &certificate) || errors.As(err, &record)
}

// malformed reports whether net/http refuses the request because of what the caller wrote into it. That must not be
// held against an endpoint. It is asked after a failure only.
func malformed(req *http.Request) bool {
	if req.Body == nil && req.ContentLength != 0 {
		return true
	}
	if s := req.URL.Scheme; req.Header == nil || s != "http" && s != "https" || strings.ContainsFunc(req.Method, notToken) {
		return true
	}
	for name, values := range req.Header {
		if name == "" || strings.ContainsFunc(name, notToken) || slices.ContainsFunc(values, badValue) {
			return true
		}
	}
	return false
}

func notToken(r rune) bool {
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
}

func badValue(v string) bool {
	return strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

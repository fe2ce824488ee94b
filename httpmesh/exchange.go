package httpmesh

import (
	"context"
	"crypto/tls"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

var errNoResponse = errors.New("httpmesh: base transport returned neither a response nor an error")

// exchange is one call over HTTP.
type exchange struct {
	call      zerohop.Call
	transport *Transport
	req       *http.Request
	sent      atomic.Bool // the body of req was given to a transport, which closes it
	responses [resilience.MaxAttempts]*http.Response
	body      body // of the answer

	mu   sync.Mutex // guards what follows, and req against its owner
	over bool
}

// Attempt sends the request to the node of a and waits for the response headers.
func (x *exchange) Attempt(ctx context.Context, a *zerohop.Attempt) resilience.Verdict {
	req, err := x.request(ctx, a)
	if err != nil {
		a.Err = err
		return resilience.Verdict{Outcome: resilience.Neutral, Unsent: true}
	}
	var resp *http.Response
	if t := x.transport; t.pool != nil {
		resp, err = t.transport(a.Node(), a.Policy().Connect.Timeout).RoundTrip(req)
	} else {
		resp, err = t.base.RoundTrip(req)
	}
	a.Idle = idle(req)
	switch {
	case err != nil && malformed(req):
		a.Err = err
		return resilience.Verdict{Outcome: resilience.Neutral, Unsent: true}
	case err != nil && (spoiled(req) || canceled(req)):
		a.Err = err
		return resilience.Verdict{Outcome: resilience.Neutral}
	case err == nil && resp == nil:
		err = errNoResponse
	case err == nil && !a.Arrived():
		resp.Body.Close()
		err = context.Canceled
	}
	if err != nil {
		a.Err = err
		return resilience.Verdict{Outcome: resilience.Failure, Retry: true, Unsent: unsent(err)}
	}
	x.responses[a.Number] = resp
	a.Status = resp.StatusCode
	return resilience.HTTPStatus(resp.StatusCode, retryAfter(resp))
}

// request makes the request of an attempt out of that of the call, which is not touched.
func (x *exchange) request(ctx context.Context, a *zerohop.Attempt) (*http.Request, error) {
	req := x.req
	if !a.Backup() {
		req = req.WithContext(ctx)
	} else if req = x.copy(ctx); req == nil {
		return nil, context.Canceled
	}
	if a.Number > 0 && req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		req.Body = body
	} else {
		x.sent.Store(true)
	}
	req.Body = observed(req)
	if t := x.transport; t.pool == nil && !t.direct {
		u := *req.URL
		if req.Host == "" {
			req.Host = u.Host
		}
		u.Host = a.Node().Addr()
		req.URL = &u
	}
	if x.call.Propagates() {
		req.Header = maps.Clone(req.Header)
		if req.Header == nil {
			req.Header = http.Header{}
		}
		x.call.Propagate(ctx, req.Header.Set)
	}
	return req, nil
}

// copy returns the request for a backup, which may begin or end only after the call is over and the caller's request
// is his to change again. In the first case it returns nil.
func (x *exchange) copy(ctx context.Context) *http.Request {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over {
		return nil
	}
	return x.req.Clone(ctx)
}

// end says that the call is over.
func (x *exchange) end() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.over = true
}

// deliver returns the response of the answer.
func (x *exchange) deliver(a *zerohop.Attempt) *http.Response {
	resp := x.responses[a.Number]
	resp.Request = x.req
	if !kept(resp) {
		resp.Body = guard(&x.body, resp, a)
	}
	return resp
}

// idempotent reports whether HTTP lets the request be executed more than once (RFC 9110, section 9.2.2), or
// its sender does by a key.
func idempotent(req *http.Request) bool {
	if req.Header.Get("Upgrade") != "" {
		return false
	}
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	// As for net/http, one without a value counts, and is not sent.
	_, key := req.Header["Idempotency-Key"]
	_, old := req.Header["X-Idempotency-Key"]
	return key || old
}

// replayable reports whether the request can be sent again: net/http's rule for its body. Tunnels and upgrades are
// made once.
func replayable(req *http.Request) bool {
	if req.Method == http.MethodConnect || req.Header.Get("Upgrade") != "" {
		return false
	}
	return req.Body == nil || req.Body == http.NoBody || req.GetBody != nil
}

// unsent reports whether the error says that the request did not leave: the connection was not made.
func unsent(err error) bool {
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

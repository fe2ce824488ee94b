package httpmesh

import (
	"context"
	"net/http"
	"strings"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// satisfied reports whether a call that returned a and err has no use for a fallback.
func satisfied(a *zerohop.Attempt, err error) bool {
	if err != nil {
		return false
	}
	o := a.Verdict().Outcome
	return o == resilience.Success || o == resilience.Neutral
}

// fallBack returns the answer to a call that has failed: that of another service or of Transport.Fallback if there is one, or
// else what the call returned, which was a and err.
func (x *exchange) fallBack(a *zerohop.Attempt, err error, r *zerohop.Request) (*http.Response, error) {
	var resp, other *http.Response
	returned := false
	defer func() {
		if returned || a == nil { // else user code panicked
			return
		}
		if resp == nil {
			x.free(a)
			resp = x.deliver(a)
		}
		resp.Body.Close()
	}()
	by := ""
	if req, rest := x.instead(a, err, r); req != nil {
		if other = x.transport.substitute(req, r); other != nil && rest >= 0 {
			x.replay.end(rest)
		}
		if other != nil {
			by = r.Service
			x.rewriteAnswer(other)
		}
	}
	if other == nil || x.replay == nil {
		x.free(a)
	}
	failure := err
	if a != nil {
		resp = x.deliver(a)
	} else if e := zerohop.Answer(err); e != nil {
		resp, failure = x.respond(e), nil
		explain(resp, zerohop.Explain(err))
	}
	if f := x.transport.Fallback; other == nil && f != nil && x.call.Failed(a, err) {
		if other = f(x.req, resp, failure); other == resp {
			other = nil
		}
	}
	if other == nil {
		returned = true
		return resp, failure
	}
	if resp != nil && resp.Body != other.Body { // else it is the same answer in other words
		resp.Body.Close()
	}
	x.call.FellBack(by, err)
	returned = true
	if other.Body == nil {
		other.Body = http.NoBody
	}
	other.Request = x.req
	return other, nil
}

// substitute sends the request of a call to the service that answers for another one. It returns nil unless that succeeds.
func (t *Transport) substitute(req *http.Request, r *zerohop.Request) *http.Response {
	x := newExchange(t, req)
	x.share()
	a, err := x.call.Run(req.Context(), t.mesh, r, x)
	x.end()
	x.free(a)
	if err != nil {
		return nil
	}
	resp := x.deliver(a)
	if satisfied(a, nil) {
		return resp
	}
	if resp.Body != nil {
		resp.Body.Close()
	}
	return nil
}

// instead returns the request to the service that is to answer for the call, nil if there is none or if the body cannot be
// sent again. rest is the place of its body in the replay, -1 if it has none.
func (x *exchange) instead(a *zerohop.Attempt, err error, r *zerohop.Request) (req *http.Request, rest int) {
	if once(x.req) {
		return nil, -1
	}
	before := x.req.URL.Host
	credentials, ok := x.call.Instead(a, err, r)
	if !ok {
		return nil, -1
	}
	req = x.req.WithContext(x.req.Context())
	u := *req.URL
	u.Host = r.Service
	req.URL = &u
	if strings.EqualFold(req.Host, before) {
		req.Host = ""
	}
	req.Header = req.Header.Clone()
	if credentials {
		drop(req.Header, "Proxy-Authorization")
	} else {
		u.User = nil
		(&headers{req: req, copied: true}).dropCredentials()
	}
	r.Header = req.Header
	rest = -1
	switch {
	case req.Body == nil, req.Body == http.NoBody:
	case x.rewinds != nil:
		if x.handed.Swap(true) { // a transport may still read it
			return nil, -1
		}
	case req.GetBody != nil:
		if req.Body, err = req.GetBody(); err != nil {
			return nil, -1
		}
	default:
		var p *part
		if p, rest = x.replay.spare(req.Context()); p == nil {
			return nil, -1
		}
		req.Body = p
	}
	return req, rest
}

// spare is begin for one attempt more than the call has made. It also returns the number of that.
func (r *replay) spare(ctx context.Context) (*part, int) {
	r.mu.Lock()
	i := 0
	for i < len(r.parts) && r.parts[i].replay != nil {
		i++
	}
	r.mu.Unlock()
	if i == len(r.parts) {
		return nil, -1
	}
	return r.begin(ctx, i, 0, false), i
}

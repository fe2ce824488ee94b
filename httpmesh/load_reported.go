package httpmesh

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/orca"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// loadOf returns what a header or trailer says of the load of a server, and takes it out: it is said to this client and
// not to who reads the answer.
func loadOf(h http.Header) (l loadbalance.Load, ok bool) {
	if values := h[LoadHeader]; len(values) > 0 {
		l, ok = orca.Header(values[len(values)-1])
		delete(h, LoadHeader)
	}
	if values := h[loadMessage]; len(values) > 0 {
		if !ok {
			l, ok = orca.Base64(values[len(values)-1])
		}
		delete(h, loadMessage)
	}
	return l, ok
}

// reportLoad tells a node what it said of its load in a header or trailer.
func reportLoad(n *loadbalance.Node, h http.Header, o resilience.Outcome) {
	l, ok := loadOf(h)
	if !ok {
		return
	}
	if o != resilience.Success {
		l.InFlight = 0
	}
	n.ReportLoad(time.Now(), l)
}

// prober asks the endpoints of a service for their load at LoadPath.
type prober struct {
	transport *Transport
	service   string
	connect   zerohop.Connect
	url       url.URL
}

// prober returns one that asks as the attempt does.
func (t *Transport) prober(a *zerohop.Attempt, req *http.Request) *prober {
	u := url.URL{Scheme: req.URL.Scheme, Host: req.URL.Host, Path: LoadPath}
	if t.pool == nil && !t.direct {
		u.Host = req.Host // the URL names the endpoint
	}
	return &prober{transport: t, service: a.Service(), connect: a.Policy().Connect, url: u}
}

var wantLoad = http.Header{WantLoadHeader: {"1"}}

// Probe asks over the connections to the endpoint that calls use, if the base is an *http.Transport. One that has to be
// made first is there for the next probe, if it is not for this one.
func (p *prober) Probe(ctx context.Context, n *loadbalance.Node) (loadbalance.Load, error) {
	u, t := p.url, p.transport
	req := (&http.Request{Method: http.MethodGet, URL: &u, Host: u.Host, Header: wantLoad.Clone()}).WithContext(ctx)
	var way trip
	var resp *http.Response
	var err error
	if h := t.handler(n); h != nil {
		resp, way, err = callHandler(h, req)
	} else if t.pool != nil {
		resp, way, err = t.poolAt(t.endpoint(n), p.service, &p.connect, &u, anyKind).send(req)
	} else {
		u.Host = n.Addr()
		resp, err = t.base.RoundTrip(req)
	}
	if err != nil {
		return loadbalance.Load{}, fmt.Errorf("httpmesh: probe of %s: %w", n.Addr(), err)
	}
	resp.Body.Close()
	way.end()
	l, ok := loadOf(resp.Header)
	switch code := resp.StatusCode; {
	case ok && code == http.StatusNoContent:
		return l, nil
	case code == http.StatusTooManyRequests || code >= 500:
		return loadbalance.Load{}, fmt.Errorf("httpmesh: probe of %s: status %q", n.Addr(), resp.Status)
	}
	return loadbalance.Load{}, fmt.Errorf("httpmesh: probe of %s: %w: status %q", n.Addr(), loadbalance.ErrNoProbes, resp.Status)
}

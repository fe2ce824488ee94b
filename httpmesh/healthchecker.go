package httpmesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/zerohop/zerohop/healthcheck"
)

// HealthChecker makes active health checks by HTTP; see zerohop.HealthCheck. It is made by NewHealthChecker, for one mesh
// or many.
type HealthChecker struct {
	base      *http.Transport
	connector connector
}

// maxHealthBody is how much of the answer to a check is read.
const maxHealthBody = 64 << 10

// NewHealthChecker returns a HealthChecker that connects as a Transport over base does: by its dialer, proxy, TLS and
// protocols, HTTP/2 among them, with or without TLS. nil means http.DefaultTransport if that is an *http.Transport, or else
// the zero value of one.
func NewHealthChecker(base *http.Transport) *HealthChecker {
	if base == nil {
		if base, _ = http.DefaultTransport.(*http.Transport); base == nil {
			base = &http.Transport{}
		}
	}
	return &HealthChecker{base: base}
}

// Check sends a GET request for p.Path and returns nil if the status of the answer is one of p.Statuses and its body ends, or
// goes on beyond 64 KiB. Redirects are not followed. If p.Protocol is "https" the request goes over TLS, which verifies
// p.ServerName, or else the name in the TLSClientConfig of the base, or else the service: never the address.
//
// Each check makes a connection of its own and closes it, so that one shows that the endpoint takes new ones, and none is
// kept for the sake of checks.
func (h *HealthChecker) Check(ctx context.Context, p healthcheck.Probe) error {
	err := h.check(ctx, p)
	if end := ctx.Err(); err != nil && end != nil && !errors.Is(err, end) { // that of the connection, which was closed for it
		return fmt.Errorf("%w: %w", end, err)
	}
	return err
}

func (h *HealthChecker) check(ctx context.Context, p healthcheck.Probe) error {
	h.connector.init(h.base)
	scheme, port, name := "http", "80", p.Service
	if p.Protocol == "https" {
		scheme, port = "https", "443"
		if h.connector.name != "" {
			name = h.connector.name
		}
		if p.ServerName != "" {
			name = p.ServerName
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://service"+p.Path, nil)
	if err != nil {
		return err
	}
	req.URL.Host, req.Host = net.JoinHostPort(name, port), p.Host
	if p.Host == "" {
		req.Host = p.Service
	}
	req.Header.Set("User-Agent", "zerohop-health-check")

	d := &dialing{addr: p.Addr, scheme: scheme, control: p.DialControl}
	defer d.abort()
	defer context.AfterFunc(ctx, d.abort)()
	cc, err := h.connector.client.NewClientConn(context.WithValue(ctx, dialKey{}, d), scheme, req.URL.Host)
	if err != nil {
		return err
	}
	defer cc.Close()
	resp, err := cc.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if !p.Statuses.Contain(resp.StatusCode) {
		return fmt.Errorf("httpmesh: health check answered %s", resp.Status)
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxHealthBody)); err != nil {
		return fmt.Errorf("httpmesh: answer to a health check broke off: %w", err)
	}
	return nil
}

package httpmesh

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
)

// Guard is an http.RoundTripper that protects requests to plain hosts, such as api.example.com, or to whatever balances
// load on its own: with retries, the retry budget and, where the policy has it on, a circuit breaker per host. It
// needs no discovery: every origin, that is scheme, host and port, is a service with one endpoint. Its name is written
// like "https://api.example.com", without the default port. It is made by NewGuard and safe for concurrent use.
//
// Up to 1,000 origins that the Spec does not name are remembered, each in a goroutine and some 15 kB; the one that was
// idle longest gives way. While more than that are called at once, requests may go to the base without protection.
type Guard struct {
	mesh      *zerohop.Mesh
	transport *Transport
}

// NewGuard returns a Guard around base. nil means http.DefaultTransport. The base gets every attempt with the URL and
// the Host of the request, and verifies, pools and uses proxies as ever. The Guard must be closed.
//
// Services and routes of the Spec are about origins. Retries and breakers work as for a Transport, but attempts follow
// each other on the same host. Backups would need another endpoint, so they are off; and foreign hosts are told neither
// the time left nor the number of the attempt unless a policy sets Propagate to zerohop.On. The error names every field
// that is wrong or would do nothing: resolver, balancers, addresses, sockets, backends of routes, and balance, connect, backup and
// healthCheck of policies.
//
// A base of type *http.Transport sends some requests again itself when a connection that it kept turns out to be closed
// (see http.Transport). A Guard cannot prevent that, but reports it: see zerohop.AttemptRecord.
func NewGuard(base http.RoundTripper, cfg zerohop.Config) (*Guard, error) {
	if err := unfit(&cfg); err != nil {
		return nil, fmt.Errorf("httpmesh: invalid configuration of a guard: %w", err)
	}
	cfg.Resolver = itself{}
	cfg.Spec.Defaults.Backup.Mode = zerohop.Off
	if cfg.Spec.Defaults.Propagate == zerohop.Inherit {
		cfg.Spec.Defaults.Propagate = zerohop.Off
	}
	mesh, err := zerohop.New(cfg)
	if err != nil {
		return nil, err
	}
	t := NewTransport(mesh, base)
	t.pool, t.direct = nil, true
	return &Guard{mesh: mesh, transport: t}, nil
}

// RoundTrip sends a request as Transport.RoundTrip does for services: the response is that of the first attempt that
// succeeded or else of the last one, and an error is a *zerohop.Error. If the breaker of the host is open, its Reason is
// zerohop.Unavailable. Requests that are not HTTP go to the base untouched.
func (g *Guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL == nil || req.URL.Host == "" || req.URL.Scheme != "http" && req.URL.Scheme != "https" {
		return g.transport.base.RoundTrip(req)
	}
	return g.transport.call(req, origin(req.URL))
}

// Stats returns the counters as they are now.
func (g *Guard) Stats() Stats { return g.transport.Stats() }

// CloseIdleConnections closes the idle connections of the base.
func (g *Guard) CloseIdleConnections() { g.transport.CloseIdleConnections() }

// Close forgets all hosts. Requests under way go on to their end; new ones fail with zerohop.ErrClosed. It leaves the
// base alone, is idempotent and returns nil.
func (g *Guard) Close() error { return g.mesh.Close() }

// ports are the default ones by scheme.
var ports = map[string]string{"http": "80", "https": "443"}

// origin returns scheme, host and port of a URL in lower case and without the default port (RFC 6454, section 6.2).
func origin(u *url.URL) string {
	host := strings.ToLower(u.Host)
	if i := strings.LastIndexByte(host, ':'); i >= 0 && (i+1 == len(host) || host[i+1:] == ports[u.Scheme]) {
		host = host[:i]
	}
	return u.Scheme + "://" + host
}

// itself is the Resolver by which every origin is its only endpoint.
type itself struct{}

// nameless stands for a host whose name is not one that DNS can carry. What base makes of it is its business.
const nameless = "host.invalid:1"

func (itself) Watch(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
	scheme, host, _ := strings.Cut(service, "://")
	addr := host
	if u := (url.URL{Host: host}); u.Port() == "" {
		addr = net.JoinHostPort(u.Hostname(), ports[scheme])
	}
	opts := discovery.RunOptions{Observe: func(ev discovery.Event) {
		if ev.Kind == discovery.EventAnswerRejected {
			update([]discovery.Endpoint{{Addr: nameless}})
		}
	}}
	return discovery.Run(ctx, discovery.Static{service: {{Addr: addr}}}, service, opts, update)
}

// unfit reports what of the configuration would do nothing.
func unfit(cfg *zerohop.Config) error {
	var errs []error
	fail := func(bad bool, field, why string) {
		if bad {
			errs = append(errs, fmt.Errorf("%s: %s", field, why))
		}
	}
	policy := func(path string, p zerohop.Policy) {
		const alone = "has no use for hosts that are their only endpoint"
		fail(p.Balance != "", path+".balance", alone)
		fail(p.Backup != zerohop.Backup{} && p.Backup != zerohop.Backup{Mode: zerohop.Off}, path+".backup", alone)
		fail(p.HealthCheck != zerohop.HealthCheck{}, path+".healthCheck", alone)
		fail(p.Fallback != zerohop.Substitute{}, path+".fallback", "has no use for hosts that are not services")
		fail(len(p.Hash) > 0, path+".hash", alone)
		fail(p.Subset != 0, path+".subset", alone)
		fail(p.Panic != 0, path+".panic", alone)
		fail(p.OverProvisioning != 0, path+".overProvisioning", alone)
		fail(p.Connect != zerohop.Connect{}, path+".connect", "is up to the base of a guard")
	}
	isOrigin := func(s string) bool {
		u, err := url.Parse(s)
		return err == nil && ports[u.Scheme] != "" && u.Host != "" && origin(u) == s
	}
	const form = `must be an origin like "https://api.example.com", in lower case and without the default port`
	fail(cfg.Resolver != nil, "resolver", "must not be set, as a guard finds no endpoints")
	fail(cfg.Balancers != nil, "balancers", "must not be set, as a guard balances nothing")
	a := &cfg.Addresses
	fail(a.AllowLoopback || a.NoNames || a.Everywhere || len(a.Allow)+len(a.Only)+len(a.Ports) > 0, "addresses", "must not be set, as a guard finds no endpoints")
	fail(len(cfg.Sockets.Directories) > 0, "sockets", "must not be set, as a guard finds no endpoints")
	policy("defaults", cfg.Spec.Defaults)
	for _, name := range slices.Sorted(maps.Keys(cfg.Spec.Services)) {
		fail(!isOrigin(name), "services."+name, form)
		policy("services."+name, cfg.Spec.Services[name])
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Spec.Policies)) {
		policy("policies."+name, cfg.Spec.Policies[name])
	}
	for i, r := range cfg.Spec.Routes {
		fail(r.Match.Service != "" && !isOrigin(r.Match.Service), fmt.Sprintf("routes[%d].match.service", i), form)
		fail(len(r.Backends) > 0, fmt.Sprintf("routes[%d].backends", i), "must be empty, as a guard sends requests nowhere else")
	}
	return errors.Join(errs...)
}

// crowded reports whether a guarded call failed because there was no room to remember its origin.
func crowded(err error) bool {
	e, ok := errors.AsType[*zerohop.Error](err)
	return ok && e.Reason == zerohop.NoEndpoints
}

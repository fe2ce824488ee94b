package zerohop

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/healthcheck"
)

// HealthCheck has each endpoint asked time and again whether it is well, by this process. One that fails its checks gets no
// calls until it passes them again, and counts as out of service for priorities and zones. While fewer than half of the
// endpoints are in service checks do not count, as ejections do not, so no check can take the last endpoint away.
//
// Ejection (Outlier) judges endpoints by the calls they fail, and costs nothing; a check can find what fails before a call
// does, and that it is back. It is of use where calls are rare or dear, or where endpoints say themselves that they are
// about to stop. Sources like Consul and Kubernetes check endpoints, too, and only once for all callers. gRPC clients can
// rather watch the health services of their endpoints, which tell changes at once and without being asked; see
// grpcmesh.Client.Health. Checks are for them where HTTP clients call the same service, or where no watch is to be kept open.
//
//	mesh, err := zerohop.New(zerohop.Config{
//		Resolver: resolver,
//		Checkers: map[string]healthcheck.Checker{"http": httpmesh.NewHealthChecker(nil)},
//		Spec: zerohop.Spec{Services: map[string]zerohop.Policy{
//			"orders": {HealthCheck: zerohop.HealthCheck{Mode: zerohop.On, Protocol: "http", Path: "/health"}},
//		}},
//	})
//
// The same in YAML, given the Checkers:
//
//	services:
//	  orders:
//	    healthCheck: {mode: on, protocol: http, path: /health, interval: 5s}
type HealthCheck struct {
	// Mode switches checks. The built-in default is Off.
	Mode Switch `json:"mode,omitempty" yaml:"mode,omitempty"`
	// Protocol is "tcp" (the built-in default, which needs nothing), or a name in Config.Checkers. By convention those are
	// "http", and maybe "https", for an httpmesh.HealthChecker, and "grpc" for a grpcmesh.HealthChecker. "https" is the
	// checker for "http" if it has none of its own.
	Protocol string `json:"protocol,omitempty" yaml:"protocol,omitempty"`
	// Path is what to ask for by HTTP, with the query. The built-in default is "/".
	Path string `json:"path,omitempty" yaml:"path,omitempty"`
	// Host is in whose name to ask, by HTTP and gRPC. The built-in default is the name of the service.
	Host string `json:"host,omitempty" yaml:"host,omitempty"`
	// Statuses are those of HTTP that are good, such as "200-299,404". The built-in default is 200-299.
	Statuses string `json:"statuses,omitempty" yaml:"statuses,omitempty"`
	// GRPCService is the name to ask a gRPC health service for. The built-in default is the server as a whole.
	GRPCService string `json:"grpcService,omitempty" yaml:"grpcService,omitempty"`
	// Port is where to check endpoints, and PortMeta the name of an entry in Endpoint.Meta that says so and comes first. The
	// built-in default is the port of the endpoint.
	Port     int    `json:"port,omitempty" yaml:"port,omitempty"`
	PortMeta string `json:"portMeta,omitempty" yaml:"portMeta,omitempty"`
	// Interval is the time between two checks of an endpoint that passes them, to which up to a tenth is added; see Jitter.
	// The built-in default is 10 s.
	Interval time.Duration `json:"interval,omitempty" yaml:"interval,omitempty"`
	// FastInterval is that for an endpoint that fails them or whose last result was another than those before. The built-in
	// default is a fifth of Interval.
	FastInterval time.Duration `json:"fastInterval,omitempty" yaml:"fastInterval,omitempty"`
	// IdleInterval takes the place of both once no call was made for so long and no gRPC connection is open. The
	// built-in default is 60 s, or Interval if that is more.
	IdleInterval time.Duration `json:"idleInterval,omitempty" yaml:"idleInterval,omitempty"`
	// Timeout bounds a check. The built-in default is 1 s.
	Timeout time.Duration `json:"timeout,omitempty" yaml:"timeout,omitempty"`
	// Jitter is the part of an interval that may be added to it at random. The built-in default is 0.1; less than 0 means none.
	Jitter float64 `json:"jitter,omitempty" yaml:"jitter,omitempty"`
	// Spread is the time within which a new endpoint is first checked, at random. The built-in default is Interval, by which
	// no restart makes more checks than the usual; less than 0 means at once.
	Spread time.Duration `json:"spread,omitempty" yaml:"spread,omitempty"`
	// Healthy is how many checks in a row an endpoint must pass to get calls again, and Unhealthy how many it must fail to get
	// none. The built-in defaults are 2 and 3. The first check of an endpoint decides alone.
	Healthy   int `json:"healthy,omitempty" yaml:"healthy,omitempty"`
	Unhealthy int `json:"unhealthy,omitempty" yaml:"unhealthy,omitempty"`
	// Unproven says whether a new endpoint gets no calls until it has passed its first check. The built-in default is Off.
	Unproven Switch `json:"unproven,omitempty" yaml:"unproven,omitempty"`
	// EndEjection says whether a passed check ends an ejection, as in Envoy. The built-in default is Off: an endpoint that
	// answers checks while it fails calls would get its share of them after each check. An endpoint that has failed its
	// checks and passes them again is back without regard to ejections in any case.
	EndEjection Switch `json:"endEjection,omitempty" yaml:"endEjection,omitempty"`
	// InFlight is how many checks of the service are made at a time at most, and Rate how many are begun per second. The
	// built-in defaults are 50 and 200. Endpoints that are too many for it are checked less often.
	InFlight int     `json:"inFlight,omitempty" yaml:"inFlight,omitempty"`
	Rate     float64 `json:"rate,omitempty" yaml:"rate,omitempty"`
}

// HealthEvent says that an endpoint began to fail its active health checks, or passes them again.
type HealthEvent struct {
	// Endpoint is what the source says of it.
	Endpoint discovery.Endpoint
	// Passing says what the checks have come to.
	Passing bool
	// Err is why the last check failed, nil if it passed.
	Err error
}

func (h HealthCheck) config() healthcheck.Config {
	return healthcheck.Config{
		Interval: h.Interval, FastInterval: h.FastInterval, IdleInterval: h.IdleInterval, Timeout: h.Timeout,
		Jitter: h.Jitter, Spread: h.Spread, Healthy: h.Healthy, Unhealthy: h.Unhealthy, Unproven: h.Unproven == On,
		InFlight: h.InFlight, Rate: h.Rate,
	}
}

func (h HealthCheck) over(wide HealthCheck) HealthCheck {
	return HealthCheck{
		Mode:         pick(h.Mode, wide.Mode),
		Protocol:     pick(h.Protocol, wide.Protocol),
		Path:         pick(h.Path, wide.Path),
		Host:         pick(h.Host, wide.Host),
		Statuses:     pick(h.Statuses, wide.Statuses),
		GRPCService:  pick(h.GRPCService, wide.GRPCService),
		Port:         pick(h.Port, wide.Port),
		PortMeta:     pick(h.PortMeta, wide.PortMeta),
		Interval:     pick(h.Interval, wide.Interval),
		FastInterval: pick(h.FastInterval, wide.FastInterval),
		IdleInterval: pick(h.IdleInterval, wide.IdleInterval),
		Timeout:      pick(h.Timeout, wide.Timeout),
		Jitter:       pick(h.Jitter, wide.Jitter),
		Spread:       pick(h.Spread, wide.Spread),
		Healthy:      pick(h.Healthy, wide.Healthy),
		Unhealthy:    pick(h.Unhealthy, wide.Unhealthy),
		Unproven:     pick(h.Unproven, wide.Unproven),
		EndEjection:  pick(h.EndEjection, wide.EndEjection),
		InFlight:     pick(h.InFlight, wide.InFlight),
		Rate:         pick(h.Rate, wide.Rate),
	}
}

// validate reports every mistake that can be seen without Config.Checkers, path being that of the policy.
func (h HealthCheck) validate(path string) error {
	var errs []error
	fail := func(field string, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s.healthCheck.%s: %w", path, field, fmt.Errorf(format, args...)))
	}
	if _, err := url.ParseRequestURI(h.Path); h.Path != "" && (err != nil || h.Path[0] != '/') {
		fail("path", "must be a path like %q, got %q", "/health", h.Path)
	}
	if u, err := url.Parse("http://" + h.Host); h.Host != "" && (err != nil || u.Host != h.Host) {
		fail("host", "must be the name of a host, got %q", h.Host)
	}
	if _, err := healthcheck.ParseStatuses(h.Statuses); err != nil {
		fail("statuses", "%w", err)
	}
	if h.Port < 0 || h.Port > 65535 {
		fail("port", "must be between 1 and 65535, got %d", h.Port)
	}
	if err := h.config().Validate(); err != nil {
		errs = append(errs, fmt.Errorf("%s.healthCheck.%w", path, err))
	}
	return errors.Join(errs...)
}

// checkerOf returns the checker for a protocol, nil if there is none.
func checkerOf(protocol string, own map[string]healthcheck.Checker) healthcheck.Checker {
	c := own[protocol]
	switch {
	case c == nil && protocol == "tcp":
		c = healthcheck.TCP{}
	case c == nil && protocol == "https":
		c = own["http"]
	}
	return c
}

// remedies are what to set Config.Checkers to for the protocols that it has by convention.
var remedies = map[string]string{
	"http": "httpmesh.NewHealthChecker(nil)", "https": "httpmesh.NewHealthChecker(nil)", "grpc": "grpcmesh.HealthChecker{}",
}

// validateCheckers reports policies whose protocol has no checker. While those of Config are not known there may be one for
// every protocol that has one by convention.
func (s Spec) validateCheckers(own map[string]healthcheck.Checker, known bool) error {
	var errs []error
	check := func(path, protocol string) {
		remedy := remedies[protocol]
		switch {
		case protocol == "" || checkerOf(protocol, own) != nil || remedy != "" && !known:
		case remedy != "":
			errs = append(errs, fmt.Errorf("%s.healthCheck.protocol: %q needs Config.Checkers[%q], such as %s", path, protocol, protocol, remedy))
		default:
			errs = append(errs, fmt.Errorf("%s.healthCheck.protocol: there is no checker %q", path, protocol))
		}
	}
	check("defaults", s.Defaults.HealthCheck.Protocol)
	for _, name := range slices.Sorted(maps.Keys(s.Services)) {
		path, h := "services."+name, s.Services[name].HealthCheck
		check(path, h.Protocol)
		if whole := s.complete(s.Services[name]).HealthCheck; known && whole.Mode == On && whole.Protocol == "tcp" && own["tcp"] == nil {
			errs = append(errs, h.idle(path))
		}
	}
	return errors.Join(errs...)
}

// idle reports what does nothing where checks only connect: most often the name of the protocol was forgotten.
func (h HealthCheck) idle(path string) error {
	var errs []error
	for _, f := range []struct{ field, value string }{
		{"path", h.Path}, {"host", h.Host}, {"statuses", h.Statuses}, {"grpcService", h.GRPCService},
	} {
		if f.value != "" {
			errs = append(errs, fmt.Errorf(`%s.healthCheck.%s: does nothing, as the protocol is "tcp"`, path, f.field))
		}
	}
	return errors.Join(errs...)
}

// checks are the active health checks of a service.
type checks struct {
	*healthcheck.Runner
	service *upstream
	policy  HealthCheck
	checker healthcheck.Checker
	probe   healthcheck.Probe // what all have in common
	idle    int64             // seconds without a call that make the service an idle one
	stop    context.CancelFunc
}

// newChecks returns those of a service, nil if its policy has none.
func newChecks(s *upstream, p *Policy) *checks {
	h := &p.HealthCheck
	if h.Mode != On {
		return nil
	}
	c := &checks{service: s, policy: *h, checker: checkerOf(h.Protocol, s.mesh.cfg.Checkers), probe: healthcheck.Probe{
		Service: s.name, Protocol: h.Protocol, Path: h.Path, Host: h.Host, ServerName: p.Connect.ServerName, GRPCService: h.GRPCService, DialControl: s.mesh.DialControl(),
	}}
	c.probe.Statuses, _ = healthcheck.ParseStatuses(h.Statuses) // validate has found no error
	cfg := h.config()
	if cfg.IdleInterval == 0 {
		cfg.IdleInterval = max(time.Minute, cfg.Interval)
	}
	c.idle = int64((cfg.IdleInterval + time.Second - 1) / time.Second)
	cfg.Rand = s.mesh.cfg.Rand
	c.Runner = healthcheck.New(cfg, c.check, c.report, c.unused)
	return c
}

// recheck replaces the checks of a service by those of the policy, if they are others. Endpoints stay what they were found to be,
// unless nobody checks them any more.
func (s *upstream) recheck(p *Policy) {
	s.checking.Lock()
	defer s.checking.Unlock()
	old := s.checks.Load()
	if old == nil && p.HealthCheck.Mode != On || old != nil && old.policy == p.HealthCheck && old.probe.ServerName == p.Connect.ServerName {
		return
	}
	next := newChecks(s, p)
	s.checks.Store(next)
	if old != nil {
		old.retire()
	}
	if next != nil {
		next.update()
		next.begin()
		return
	}
	for _, n := range s.balancer.Set().Nodes() {
		s.balancer.SetFailing(n.Addr(), false, time.Now())
	}
}

// begin makes the checks in the background, if the service is watched. s.checking is held.
func (c *checks) begin() {
	s := c.service
	if c.stop != nil || !s.watched || s.ctx.Err() != nil {
		return
	}
	ctx, stop := context.WithCancel(s.ctx)
	if s.mesh.task(func() { c.Run(ctx) }) {
		c.stop = stop
	} else {
		stop()
	}
}

// retire ends the checks. Results that are still to come do not count.
func (c *checks) retire() {
	if c.stop != nil {
		c.stop()
	}
}

// update has the endpoints checked that the balancer has.
func (c *checks) update() {
	c.Update(func(yield func(discovery.Endpoint) bool) {
		for _, n := range c.service.balancer.Set().Nodes() {
			if !yield(n.Endpoint()) {
				return
			}
		}
	})
}

func (c *checks) check(ctx context.Context, ep discovery.Endpoint) error {
	p := c.probe
	p.Endpoint, p.Addr = ep, ep.Addr
	h := &c.policy
	port := ""
	if h.Port > 0 {
		port = strconv.Itoa(h.Port)
	}
	if said := ep.Meta[h.PortMeta]; said != "" {
		if n, err := strconv.ParseUint(said, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("zerohop: %q of the endpoint's metadata is no port: %q", h.PortMeta, said)
		}
		port = said
	}
	if port != "" {
		host, _, err := net.SplitHostPort(ep.Addr)
		if err != nil {
			return err
		}
		p.Addr = net.JoinHostPort(host, port)
	}
	if p.DialControl != nil {
		if err := c.service.mesh.cfg.Addresses.Check(p.Addr); err != nil {
			return err
		}
	}
	return c.checker.Check(ctx, p)
}

func (c *checks) report(r healthcheck.Result) {
	s, now := c.service, time.Now()
	if s.checks.Load() != c {
		return
	}
	changed := s.balancer.SetFailing(r.Endpoint.Addr, !r.Passing, now)
	if r.Err == nil && c.policy.EndEjection == On {
		s.balancer.EndEjection(r.Endpoint.Addr, now)
	}
	if hook := s.mesh.cfg.Hooks.Health; changed && hook != nil {
		hook(s.name, HealthEvent{Endpoint: r.Endpoint, Passing: r.Passing, Err: r.Err})
	}
}

func (c *checks) unused() bool {
	return seconds(c.service.mesh.now())-c.service.used.Load() >= c.idle && !c.service.busy()
}

// used is told that a call was made, and when the last one before was.
func (c *checks) used(sec, last int64) {
	if sec-last >= c.idle {
		c.Resume()
	}
}

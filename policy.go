package zerohop

import (
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// Switch turns a stage on or off. The zero value inherits.
type Switch string

const (
	// Inherit takes the setting of the next wider policy.
	Inherit Switch = ""
	// On switches a stage on.
	On Switch = "on"
	// Off switches a stage off.
	Off Switch = "off"
)

// switching reports what neither inherits nor switches on or off.
func (s Switch) switching(path string) error {
	if s != Inherit && s != On && s != Off {
		return fmt.Errorf(`%s: must be "on" or "off", got %q`, path, string(s))
	}
	return nil
}

// Policy says how calls are balanced and protected. It is plain data. A field at its zero value inherits:
// built-in default < preset < Spec.Defaults < Spec.Services < policy of the route < WithCall.
//
// Stages that are off by default are switched on by their Mode. To set them up and leave the Mode to nobody is a mistake.
type Policy struct {
	// Preset takes the place of the built-in defaults: "envoy", "istio", "linkerd", "grpc" or "spring-cloud", see PresetEnvoy
	// and the others. Whatever Spec.Defaults and the service set comes before it. The preset of a service takes the place of
	// that of Spec.Defaults. Empty inherits; the built-in default is none. It belongs to a service.
	Preset string `json:"preset,omitempty" yaml:"preset,omitempty"`
	// Balance names the algorithm: "peak-ewma" (the default), "least-request", "prequal", "utilization",
	// "weighted-round-robin", "random", "rendezvous", "ring-hash", "maglev", or a name in Config.Balancers. Package
	// loadbalance says which is for what. Routes may have another one than their service, but for
	// "prequal" and "utilization".
	Balance string `json:"balance,omitempty" yaml:"balance,omitempty"`
	// LeastRequest, Prequal, Utilization and Hashing are parameters of the algorithms of these names, Hashing of those that
	// hash. They belong to a service or a route, which must have the algorithm; those of Prequal and Utilization to a
	// service. In Spec.Defaults they are for the services that do.
	LeastRequest LeastRequest `json:"leastRequest,omitzero" yaml:"leastRequest,omitempty"`
	Prequal      Prequal      `json:"prequal,omitzero" yaml:"prequal,omitempty"`
	Utilization  Utilization  `json:"utilization,omitzero" yaml:"utilization,omitempty"`
	Hashing      Hashing      `json:"hashing,omitzero" yaml:"hashing,omitempty"`
	// Hash says where the key of a call comes from that the hashing algorithms look at: the first of these that has
	// one. CallOptions.HashKey comes before. Calls without a key go to a random endpoint each. Empty inherits; the built-in
	// default is none. A retry or a backup goes to the next endpoint in the order of the key.
	Hash []HashSource `json:"hash,omitempty" yaml:"hash,omitempty"`
	// Subset is how many endpoints of each priority the process keeps to, where there are more than 32: so it is connected
	// to a few endpoints of a large service only. Which depends on Config.Instance, or on Config.Peers; see
	// loadbalance.Subset. 0 inherits; the built-in default is all, and so is less than 0. It belongs to a service.
	Subset int `json:"subset,omitempty" yaml:"subset,omitempty"`
	// Panic is the share of the endpoints of a priority that must be in service for ejections and failed health checks to
	// count: below it calls go to all of them. 0 inherits; the built-in default is 0.5; less than 0 means that they always
	// count, as long as one endpoint is in service. It belongs to a service.
	Panic float64 `json:"panic,omitempty" yaml:"panic,omitempty"`
	// OverProvisioning is how much more than its part of the endpoints those in service of a priority are taken to be able to
	// carry before calls spill over to the next priority. 0 inherits; the built-in default is 1.4, the least is 1, the most
	// is 1,000, with which they spill when hardly any is left. It belongs to a service.
	OverProvisioning float64 `json:"overProvisioning,omitempty" yaml:"overProvisioning,omitempty"`
	// Timeout bounds the whole call, its body included, but not a connection once it was upgraded. 0 inherits; the
	// built-in default is none, so that downloads and event streams are not cut. The caller's own deadline always
	// holds.
	Timeout time.Duration `json:"timeout,omitempty" yaml:"timeout,omitempty"`
	// AttemptTimeout bounds one attempt, the sending of its body included, until its response headers (HTTP) or its
	// end (gRPC, Do). The built-in default is none: slow attempts get a backup instead; see Backup.
	AttemptTimeout time.Duration `json:"attemptTimeout,omitempty" yaml:"attemptTimeout,omitempty"`
	// ReadTimeout bounds how long the body of an HTTP answer may pause while the caller waits for more of it.
	// The built-in default is none: event streams may be silent for hours.
	ReadTimeout time.Duration `json:"readTimeout,omitempty" yaml:"readTimeout,omitempty"`
	// Connect says how httpmesh connects to endpoints. It belongs to a service, not to a route.
	Connect Connect `json:"connect,omitzero" yaml:"connect,omitempty"`
	// Propagate says whether endpoints are told how much time is left to the call (httpmesh.TimeoutHeader), how
	// often it was sent before (httpmesh.AttemptHeader), and how critical it is (httpmesh.CriticalityHeader). The built-in
	// default is On. gRPC tells the time in any case.
	Propagate Switch `json:"propagate,omitempty" yaml:"propagate,omitempty"`
	// Idempotent says that calls may be executed more than once, or (Off) that none may. The built-in
	// default asks the protocol: HTTP methods and Idempotency-Key, idempotency_level of protobuf methods.
	Idempotent Switch `json:"idempotent,omitempty" yaml:"idempotent,omitempty"`
	// Criticality says who gives way where there is too much to do: "sheddable", "sheddable-plus", "critical" or
	// "critical-plus". Sheddable calls are neither repeated nor joined by backups, sheddable-plus ones are repeated only;
	// what a server has provably not begun may be sent again all the same. Where Propagate is on, endpoints are told, and
	// the calls that they make meanwhile are as critical. Empty inherits; the built-in default is critical.
	// zerohop.CallOptions, and the level of the request that a call is made for (see Inbound), come before.
	Criticality resilience.Criticality `json:"criticality,omitempty" yaml:"criticality,omitempty"`
	// Fallback says which other service answers when a call has failed for good.
	Fallback Substitute `json:"fallback,omitzero" yaml:"fallback,omitempty"`
	// Retry says when failed attempts are repeated.
	Retry Retry `json:"retry,omitzero" yaml:"retry,omitempty"`
	// Backup says when slow attempts are joined by another one.
	Backup Backup `json:"backup,omitzero" yaml:"backup,omitempty"`
	// RateLimit bounds how many calls begin in a second.
	RateLimit RateLimit `json:"rateLimit,omitzero" yaml:"rateLimit,omitempty"`
	// Limit bounds how many calls are in flight at once.
	Limit Limit `json:"limit,omitzero" yaml:"limit,omitempty"`
	// Budget limits retries and backups of all calls of a service together. Where a route sets any of it, its calls have one of
	// their own, for each service that it leads to.
	Budget Budget `json:"budget,omitzero" yaml:"budget,omitempty"`
	// Breaker is the circuit breaker of each endpoint. It belongs to a service.
	Breaker Breaker `json:"breaker,omitzero" yaml:"breaker,omitempty"`
	// Throttle refuses attempts that the service would most likely refuse. It belongs to a service.
	Throttle Throttle `json:"throttle,omitzero" yaml:"throttle,omitempty"`
	// ServiceBreaker is the circuit breaker of the whole service. It sees the attempts on all endpoints, so that one that
	// fails of ten does not open it. It belongs to a service.
	ServiceBreaker Breaker `json:"serviceBreaker,omitzero" yaml:"serviceBreaker,omitempty"`
	// EndpointLimit bounds how many attempts are in flight on each endpoint. It belongs to a service.
	EndpointLimit EndpointLimit `json:"endpointLimit,omitzero" yaml:"endpointLimit,omitempty"`
	// Outlier says when an endpoint is ejected. It belongs to a service.
	Outlier Outlier `json:"outlier,omitzero" yaml:"outlier,omitempty"`
	// SlowStart brings new endpoints up to their share of the calls over a while. It belongs to a service.
	SlowStart SlowStart `json:"slowStart,omitzero" yaml:"slowStart,omitempty"`
	// Locality keeps calls in Config.Zone. It belongs to a service.
	Locality Locality `json:"locality,omitzero" yaml:"locality,omitempty"`
	// HealthCheck has endpoints asked whether they are well. It belongs to a service.
	HealthCheck HealthCheck `json:"healthCheck,omitzero" yaml:"healthCheck,omitempty"`
	// Sticky keeps the calls of a client on one endpoint.
	Sticky Sticky `json:"sticky,omitzero" yaml:"sticky,omitempty"`
	// Select keeps calls to the endpoints that have some metadata.
	Select Select `json:"select,omitzero" yaml:"select,omitempty"`
	// Lane keeps calls to the endpoints of their lane, such as those of a feature branch.
	Lane Lane `json:"lane,omitzero" yaml:"lane,omitempty"`
	// Explain says which calls are explained.
	Explain ExplainPolicy `json:"explain,omitzero" yaml:"explain,omitempty"`
}

// Connect says how httpmesh connects to endpoints when its base is an *http.Transport. gRPC connects in the background
// and has use for Unix alone.
type Connect struct {
	// Timeout bounds how long it may take to connect, the TLS handshake included. 0 inherits; the built-in default
	// is 1 s.
	Timeout time.Duration `json:"timeout,omitempty" yaml:"timeout,omitempty"`
	// ServerName is the name that TLS asks for and verifies. Empty inherits; the built-in default is that of the
	// base's TLSClientConfig, or else the host of the URL. It is never the address of the endpoint.
	ServerName string `json:"serverName,omitempty" yaml:"serverName,omitempty"`
	// MaxAge is how long a connection is given new requests, less up to a tenth of it at random. Requests under way
	// are never cut. 0 inherits; the built-in default is no limit.
	MaxAge time.Duration `json:"maxAge,omitempty" yaml:"maxAge,omitempty"`
	// Warm is how many connections are opened to an endpoint before the first request to it, once the service is
	// used over the transport; one is enough where it speaks HTTP/2. 0 inherits; the built-in default is none. The
	// most is 100, and what the base keeps idle per host if it says so.
	Warm int `json:"warm,omitempty" yaml:"warm,omitempty"`
	// Unix says whether connections to instances on the same host go to the Unix socket that an instance says it has, where
	// Config.Sockets allows any; gRPC heeds it, too. The built-in default is On.
	Unix Switch `json:"unix,omitempty" yaml:"unix,omitempty"`
}

// Retry says when failed attempts are repeated: on another endpoint while there is one, only if the attempt
// failed in a way worth repeating, and only if the call is idempotent or the attempt provably not sent. Worth repeating
// are errors of connections and what resilience.HTTPStatus (429, 502, 503 and 504, above all) and GRPCStatus say is;
// Config.Classify can say otherwise. An endpoint
// that asks for a pause (Retry-After) gets nothing for so long while another one is ready. If none is, the call keeps the
// pause if it fits into its deadline, and without one if it is at most a second; else the answer is the call's.
type Retry struct {
	// Mode switches retries. The built-in default is On.
	Mode Switch `json:"mode,omitempty" yaml:"mode,omitempty"`
	// Attempts is the largest number of attempts, the first one and backups included. 0 inherits; the
	// built-in default is 3, the most is 5.
	Attempts int `json:"attempts,omitempty" yaml:"attempts,omitempty"`
	// Base and Max bound the pause before a retry: a random time between 0 and an interval that starts at
	// Base and doubles up to Max. The built-in defaults are 25 ms and 250 ms.
	Base time.Duration `json:"base,omitempty" yaml:"base,omitempty"`
	Max  time.Duration `json:"max,omitempty" yaml:"max,omitempty"`
}

// Backup says when a slow attempt of an idempotent call is joined by another one on another endpoint: when
// it has run for Factor times the learned latency of its route at Quantile, or half of the time to the deadline if
// that is less, but at least Min. 1 s stands for the latency times Factor until a score of answers is known. The
// first success wins and the other attempt is cancelled. Streams of RPCs, and requests that accept text/event-stream, get
// no backup: they take as long to begin as there is nothing to tell. Nor should other requests that wait for
// something to happen: switch backups off for their route, or for the call by WithCall.
//
// The defaults rescue calls from endpoints that hang. To hedge, which cuts the tail of a service that is merely
// uneven, set Quantile to 0.95, Factor to 1, Min to about the median and Budget.Ratio to 0.05: then one call in twenty is
// sent twice, and no more than that if everything becomes slow.
type Backup struct {
	// Mode switches backups. The built-in default is On.
	Mode Switch `json:"mode,omitempty" yaml:"mode,omitempty"`
	// Min is the least time before a backup. 0 inherits; the built-in default is 50 ms.
	Min time.Duration `json:"min,omitempty" yaml:"min,omitempty"`
	// Quantile of the latency of successful attempts. 0 inherits; the built-in default is 0.99.
	Quantile float64 `json:"quantile,omitempty" yaml:"quantile,omitempty"`
	// Factor is multiplied with the learned quantile. 0 inherits; the built-in default is 2:
	// few good answers take longer, and calls that met a hung endpoint stay within twice the usual 99.9th
	// percentile.
	Factor float64 `json:"factor,omitempty" yaml:"factor,omitempty"`
}

// builtin is the policy that all others refine.
var builtin = Policy{
	Balance:   "peak-ewma",
	Connect:   Connect{Timeout: time.Second, Unix: On},
	Propagate: On,
	Fallback:  Substitute{Mode: On, Credentials: Off},
	Retry:     Retry{Mode: On, Attempts: 3},
	Backup:    Backup{Mode: On, Min: 50 * time.Millisecond, Quantile: 0.99, Factor: 2},
	RateLimit: RateLimit{Mode: Off},
	Limit:     Limit{Mode: Off, Algorithm: "fixed"},
	Budget:    Budget{Mode: On},
	Breaker:   Breaker{Mode: Off},
	Throttle:  Throttle{Mode: Off},

	ServiceBreaker: Breaker{Mode: Off, Consecutive: math.MaxUint32},
	EndpointLimit:  EndpointLimit{Mode: Off, Algorithm: "adaptive"},

	Outlier:     Outlier{Mode: On},
	SlowStart:   SlowStart{Mode: On},
	Locality:    Locality{Mode: On, Low: 0.8, High: 2},
	HealthCheck: HealthCheck{Mode: Off, Protocol: "tcp", Path: "/", Unproven: Off, EndEjection: Off},
	Sticky:      Sticky{Mode: On, Strict: Off, Cookie: Cookie{Path: "/"}},
	Select:      Select{Mode: On, Fallback: FallbackNone},
	Lane:        Lane{Mode: Off, Key: "lane", Stable: "stable", Fallback: FallbackStable},
	Explain:     ExplainPolicy{Mode: On},
}

func pick[T comparable](narrow, wide T) T {
	var zero T
	if narrow != zero {
		return narrow
	}
	return wide
}

// listed is pick for lists, of which the narrow one replaces the wide one.
func listed[T any](narrow, wide []T) []T {
	if len(narrow) > 0 {
		return narrow
	}
	return wide
}

// over returns p with every unset field taken from wide.
func (p Policy) over(wide Policy) Policy {
	return Policy{
		Preset:       pick(p.Preset, wide.Preset),
		Balance:      pick(p.Balance, wide.Balance),
		LeastRequest: p.LeastRequest.over(wide.LeastRequest),
		Prequal:      p.Prequal.over(wide.Prequal),
		Utilization:  p.Utilization.over(wide.Utilization),
		Hashing:      p.Hashing.over(wide.Hashing),
		Hash:         listed(p.Hash, wide.Hash),
		Subset:       pick(p.Subset, wide.Subset),
		Panic:        pick(p.Panic, wide.Panic),

		OverProvisioning: pick(p.OverProvisioning, wide.OverProvisioning),

		Timeout:        pick(p.Timeout, wide.Timeout),
		AttemptTimeout: pick(p.AttemptTimeout, wide.AttemptTimeout),
		ReadTimeout:    pick(p.ReadTimeout, wide.ReadTimeout),
		Connect: Connect{
			Timeout:    pick(p.Connect.Timeout, wide.Connect.Timeout),
			ServerName: pick(p.Connect.ServerName, wide.Connect.ServerName),
			MaxAge:     pick(p.Connect.MaxAge, wide.Connect.MaxAge),
			Warm:       pick(p.Connect.Warm, wide.Connect.Warm),
			Unix:       pick(p.Connect.Unix, wide.Connect.Unix),
		},
		Propagate:   pick(p.Propagate, wide.Propagate),
		Idempotent:  pick(p.Idempotent, wide.Idempotent),
		Criticality: p.Criticality.Or(wide.Criticality),
		Retry: Retry{
			Mode:     pick(p.Retry.Mode, wide.Retry.Mode),
			Attempts: pick(p.Retry.Attempts, wide.Retry.Attempts),
			Base:     pick(p.Retry.Base, wide.Retry.Base),
			Max:      pick(p.Retry.Max, wide.Retry.Max),
		},
		Backup: Backup{
			Mode:     pick(p.Backup.Mode, wide.Backup.Mode),
			Min:      pick(p.Backup.Min, wide.Backup.Min),
			Quantile: pick(p.Backup.Quantile, wide.Backup.Quantile),
			Factor:   pick(p.Backup.Factor, wide.Backup.Factor),
		},
		RateLimit:      p.RateLimit.over(wide.RateLimit),
		Limit:          p.Limit.over(wide.Limit),
		Budget:         p.Budget.over(wide.Budget),
		Breaker:        p.Breaker.over(wide.Breaker),
		Throttle:       p.Throttle.over(wide.Throttle),
		ServiceBreaker: p.ServiceBreaker.over(wide.ServiceBreaker),
		EndpointLimit:  p.EndpointLimit.over(wide.EndpointLimit),
		Outlier:        p.Outlier.over(wide.Outlier),
		SlowStart:      p.SlowStart.over(wide.SlowStart),
		Locality:       p.Locality.over(wide.Locality),
		HealthCheck:    p.HealthCheck.over(wide.HealthCheck),
		Sticky:         p.Sticky.over(wide.Sticky),
		Select:         p.Select.over(wide.Select),
		Lane:           p.Lane.over(wide.Lane),
		Fallback:       p.Fallback.over(wide.Fallback),
		Explain:        p.Explain.over(wide.Explain),
	}
}

// validate reports every mistake, each with the path of its field.
func (p Policy) validate(path string, own map[string]loadbalance.Builder) error {
	var errs []error
	fail := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s.%s: %s", path, field, fmt.Sprintf(format, args...)))
	}
	errs = append(errs, p.validateBalance(path, own), validateHash(path, p.Hash), p.validateSharing(path), p.validatePreset(path))
	for _, d := range []struct {
		field string
		value time.Duration
	}{
		{"timeout", p.Timeout}, {"attemptTimeout", p.AttemptTimeout}, {"readTimeout", p.ReadTimeout},
		{"connect.timeout", p.Connect.Timeout}, {"connect.maxAge", p.Connect.MaxAge},
		{"retry.base", p.Retry.Base}, {"retry.max", p.Retry.Max}, {"backup.min", p.Backup.Min},
	} {
		if d.value < 0 {
			fail(d.field, "must not be negative, got %v", d.value)
		}
	}
	for _, s := range []struct {
		field string
		value Switch
	}{
		{"idempotent", p.Idempotent}, {"propagate", p.Propagate}, {"retry.mode", p.Retry.Mode}, {"backup.mode", p.Backup.Mode},
		{"budget.mode", p.Budget.Mode}, {"outlier.mode", p.Outlier.Mode},
		{"outlier.one", p.Outlier.One}, {"outlier.linear", p.Outlier.Linear}, {"outlier.absolute", p.Outlier.Absolute},
		{"leastRequest.replacement", p.LeastRequest.Replacement}, {"slowStart.mode", p.SlowStart.Mode}, {"locality.mode", p.Locality.Mode},
		{"healthCheck.mode", p.HealthCheck.Mode}, {"healthCheck.unproven", p.HealthCheck.Unproven}, {"healthCheck.endEjection", p.HealthCheck.EndEjection},
		{"sticky.mode", p.Sticky.Mode}, {"sticky.strict", p.Sticky.Strict}, {"sticky.cookie.secure", p.Sticky.Cookie.Secure},
		{"select.mode", p.Select.Mode}, {"connect.unix", p.Connect.Unix},
	} {
		errs = append(errs, s.value.switching(path+"."+s.field))
	}
	if p.Criticality > resilience.CriticalPlus {
		fail("criticality", "there is no level %d", p.Criticality)
	}
	if p.Retry.Attempts < 0 || p.Retry.Attempts > resilience.MaxAttempts {
		fail("retry.attempts", "must be between 1 and %d, got %d", resilience.MaxAttempts, p.Retry.Attempts)
	}
	if p.Connect.Warm < 0 || p.Connect.Warm > 100 {
		fail("connect.warm", "must be between 0 and 100, got %d", p.Connect.Warm)
	}
	if n := p.Connect.ServerName; strings.ContainsAny(n, ":/ ") && net.ParseIP(n) == nil {
		fail("connect.serverName", "must be a host name without a port, got %q", n)
	}
	if q := p.Backup.Quantile; q != 0 && !(q >= 0.5 && q <= 0.999) {
		fail("backup.quantile", "must be between 0.5 and 0.999, got %v", q)
	}
	if p.Retry.Max > 0 && p.Retry.Base > p.Retry.Max {
		fail("retry.base", "must not be more than retry.max (%v), got %v", p.Retry.Max, p.Retry.Base)
	}
	if f := p.Backup.Factor; f != 0 && !(f >= 1 && f <= 1000) {
		fail("backup.factor", "must be between 1 and 1000, got %v", f)
	}
	errs = append(errs, p.Budget.validate(path+".budget"))
	if err := p.Outlier.config().Validate(); err != nil {
		errs = append(errs, fmt.Errorf("%s.outlier.%w", path, err))
	}
	if err := p.SlowStart.config().Validate(); err != nil {
		errs = append(errs, fmt.Errorf("%s.slowStart.%w", path, err))
	}
	errs = append(errs, p.HealthCheck.validate(path))
	near := p.Locality.config("", false)
	if near.Low == 0 && near.High > 0 { // it is inherited
		near.Low = near.High
	}
	if err := near.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("%s.locality.%w", path, err))
	}
	errs = append(errs, p.RateLimit.validate(path+".rateLimit"), p.Breaker.validate(path+".breaker"), p.ServiceBreaker.validateService(path+".serviceBreaker"),
		p.Limit.validate(path+".limit"), p.EndpointLimit.validate(path+".endpointLimit"), p.Throttle.validate(path+".throttle"))
	errs = append(errs, p.Sticky.validate(path+".sticky"), p.Select.validate(path+".select"), p.Lane.validate(path+".lane"), p.Fallback.validate(path+".fallback"), p.Explain.validate(path+".explain"))
	return errors.Join(errs...)
}

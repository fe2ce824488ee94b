package zerohop

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/healthcheck"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/routing"
)

func TestNewNamesTheFieldOfEveryMistake(t *testing.T) {
	service := func(p Policy) Config {
		return Config{Resolver: discovery.Static{}, Spec: Spec{Services: map[string]Policy{"orders": p}}}
	}
	route := func(p Policy) Config {
		return Config{Resolver: discovery.Static{}, Spec: Spec{Policies: map[string]Policy{"x": p}}}
	}
	for _, c := range []struct {
		name string
		cfg  Config
		want []string
	}{
		{"nil resolver", Config{}, []string{"resolver: must be set"}},
		{"start timeout", Config{Resolver: discovery.Static{}, StartTimeout: -1}, []string{"startTimeout: must not be negative, got -1ns"}},
		{"max removal", Config{Resolver: discovery.Static{}, Discovery: Discovery{MaxRemoval: 1.5}}, []string{"discovery.maxRemoval: must be between 0 and 1, got 1.5"}},
		{"no removal", Config{Resolver: discovery.Static{}, Discovery: Discovery{MaxRemoval: math.NaN()}}, []string{"discovery.maxRemoval: must be between 0 and 1, got NaN"}},
		{"attempts", service(Policy{Retry: Retry{Attempts: 9}}), []string{"services.orders.retry.attempts: must be between 1 and 5, got 9"}},
		{"negative attempts", service(Policy{Retry: Retry{Attempts: -1}}), []string{"services.orders.retry.attempts: must be between 1 and 5, got -1"}},
		{"cookie", service(Policy{Sticky: Sticky{Cookie: Cookie{Name: "a=b", Path: "x", TTL: time.Millisecond, Secure: "yes"}}}), []string{
			`services.orders.sticky.cookie.name: "a=b" is not the name of a cookie`, `services.orders.sticky.cookie.path: must begin with a slash`,
			"services.orders.sticky.cookie.ttl: must be at least 1s, got 1ms", `services.orders.sticky.cookie.secure: must be "on" or "off", got "yes"`,
		}},
		{"path of a cookie", service(Policy{Sticky: Sticky{Cookie: Cookie{Name: "a", Path: "/; Domain=example.com"}}}), []string{"services.orders.sticky.cookie.path: "}},
		{"sticky", route(Policy{Sticky: Sticky{Mode: "x", Strict: "y", Header: "Host"}}), []string{
			"policies.x.sticky.mode: ", "policies.x.sticky.strict: ", `policies.x.sticky.header: "Host" is not a header that can hold a session`,
		}},
		{"header of a session", service(Policy{Sticky: Sticky{Header: "x-session-bin"}}), []string{`services.orders.sticky.header: "x-session-bin" means something else to gRPC`}},
		{"cookie as header", service(Policy{Sticky: Sticky{Header: "cookie"}}), []string{"services.orders.sticky.header: cookie has a field of its own: cookie.name"}},
		{"select", service(Policy{Select: Select{
			Mode: "x", Match: map[string]string{"": "a"}, Headers: map[string]string{"version": "a b"}, Fallback: "all",
		}}), []string{
			"services.orders.select.mode: ", "services.orders.select.match: a key must not be empty",
			`services.orders.select.headers.version: "a b" is not a header`, `services.orders.select.fallback: must be "none", "any" or "default", got "all"`,
		}},
		{"keys of select", route(Policy{Select: Select{
			Headers: map[string]string{"a": "a", "b": "b", "c": "c", "d": "d", "e": "e"}, Fallback: FallbackDefault,
		}}), []string{
			"policies.x.select.headers: must have at most 4 keys, got 5", `policies.x.select.default: must be set where fallback is "default"`,
		}},
		{"balance", service(Policy{Balance: "fair"}), []string{`services.orders.balance: unknown algorithm "fair", want one of ["least-request" "maglev" "peak-ewma"`}},
		{"choices", service(Policy{Balance: "least-request", LeastRequest: LeastRequest{Choices: 1}}), []string{"services.orders.leastRequest.choices: must be between 2 and 10, got 1"}},
		{"quantile", service(Policy{Balance: "prequal", Prequal: Prequal{Quantile: 1.5}}), []string{"services.orders.prequal.quantile: must not be above 1, got 1.5"}},
		{"expiration", service(Policy{Balance: "utilization", Utilization: Utilization{Expiration: -1}}), []string{"services.orders.utilization.expiration: must not be negative, got -1ns"}},
		{"bound", service(Policy{Balance: "maglev", Hashing: Hashing{Bound: 0.5}}), []string{"services.orders.hashing.bound: must be above 1, got 0.5"}},
		{"no source of a hash", service(Policy{Balance: "maglev", Hash: []HashSource{{Header: "x-user"}, {}}}), []string{"services.orders.hash[1]: needs one of header, cookie, query, path and client, got 0"}},
		{"two sources of a hash", service(Policy{Balance: "maglev", Hash: []HashSource{{Header: "x-user", Path: true}}}), []string{"services.orders.hash[0]: needs one of header, cookie, query, path and client, got 2"}},
		{"header of a hash", service(Policy{Balance: "maglev", Hash: []HashSource{{Header: "x user"}, {Header: "host"}}}), []string{
			`services.orders.hash[0].header: "x user" is not a header that can hold a key`, `services.orders.hash[1].header: "host" is not`,
		}},
		{"cookie of a hash", service(Policy{Balance: "maglev", Hash: []HashSource{{Cookie: "a;b"}}}), []string{`services.orders.hash[0].cookie: "a;b" is not the name of a cookie`}},
		{"hash of a route", route(Policy{Hash: []HashSource{{}}}), []string{"policies.x.hash[0]: needs one of"}},
		{"hash without the algorithm", service(Policy{Hash: []HashSource{{Path: true}}}), []string{`services.orders.hash: does nothing, as the service is balanced by "peak-ewma"`}},
		{"preset", service(Policy{Preset: "nginx"}), []string{`services.orders.preset: unknown preset "nginx", want one of ["envoy" "grpc" "istio" "linkerd" "spring-cloud"]`}},
		{"preset of a route", route(Policy{Preset: "envoy"}), []string{"policies.x.preset: belongs to a service, not to a route"}},
		{"parameters that the algorithm of a preset has no use for", service(Policy{Preset: "istio", Hashing: Hashing{Table: 7}}), []string{`services.orders.hashing: does nothing, as the service is balanced by "least-request"`}},
		{"panic", service(Policy{Panic: 1.5}), []string{"services.orders.panic: must not be above 1, got 1.5"}},
		{"panic not a number", service(Policy{Panic: math.NaN()}), []string{"services.orders.panic: must not be above 1, got NaN"}},
		{"over-provisioning", service(Policy{OverProvisioning: 0.9}), []string{"services.orders.overProvisioning: must be between 1 and 1000, got 0.9"}},
		{"sharing of a route", route(Policy{Panic: -1, OverProvisioning: 2, Subset: 20}), []string{
			"policies.x.panic: belongs to a service, not to a route", "policies.x.overProvisioning: ", "policies.x.subset: ",
		}},
		{"peer index", Config{Resolver: discovery.Static{}, Peers: 3, PeerIndex: 3}, []string{"peerIndex: must be between 0 and the number of peers less one, got 3 of 3"}},
		{"peer index without peers", Config{Resolver: discovery.Static{}, PeerIndex: 1}, []string{"peerIndex: "}},
		{"negative peers", Config{Resolver: discovery.Static{}, Peers: -1}, []string{"peerIndex: "}},
		{"choices without the algorithm", service(Policy{LeastRequest: LeastRequest{Choices: 3}}), []string{`services.orders.leastRequest: does nothing, as the service is balanced by "peak-ewma"`}},
		{"probes", service(Policy{Balance: "prequal", Prequal: Prequal{Probes: 17}}), []string{"services.orders.prequal.probes: must not be above 16, got 17"}},
		{"probe timeout", service(Policy{Balance: "prequal", Prequal: Prequal{ProbeTimeout: -1}}), []string{"services.orders.prequal.probeTimeout: must not be negative, got -1ns"}},
		{"probe rate", service(Policy{Balance: "prequal", Prequal: Prequal{ProbeRate: -1}}), []string{"services.orders.prequal.probeRate: must be between 0 and a million, got -1"}},
		{"parameters of another algorithm", service(Policy{Balance: "maglev", Prequal: Prequal{Pool: 3}, Utilization: Utilization{Update: time.Second}}), []string{
			`services.orders.prequal: does nothing, as the service is balanced by "maglev"`, `services.orders.utilization: does nothing`,
		}},
		{"parameters without the algorithm of the defaults", Config{Resolver: discovery.Static{}, Spec: Spec{
			Defaults: Policy{Balance: "random", Prequal: Prequal{Pool: 3}}, Services: map[string]Policy{"orders": {Hashing: Hashing{Table: 7}}},
		}}, []string{`services.orders.hashing: does nothing, as the service is balanced by "random"`}},
		{"parameters of an algorithm that was replaced", Config{
			Resolver: discovery.Static{}, Balancers: map[string]loadbalance.Builder{"least-request": loadbalance.Random},
			Spec: Spec{Services: map[string]Policy{"orders": {Balance: "least-request", LeastRequest: LeastRequest{Choices: 3}}}},
		}, []string{`services.orders.leastRequest: does nothing, as the service is balanced by "least-request"`}},
		{"parameters of a route", route(Policy{LeastRequest: LeastRequest{Choices: 3}, Prequal: Prequal{Pool: 3}, Utilization: Utilization{Update: time.Second}, Hashing: Hashing{Table: 7}}), []string{
			"policies.x.prequal: belongs to a service, not to a route", "policies.x.utilization: ",
		}},
		{"timeout", service(Policy{Timeout: -time.Second}), []string{"services.orders.timeout: must not be negative, got -1s"}},
		{"attempt timeout", service(Policy{AttemptTimeout: -1}), []string{"services.orders.attemptTimeout: must not be negative, got -1ns"}},
		{"connect timeout", service(Policy{Connect: Connect{Timeout: -1}}), []string{"services.orders.connect.timeout: must not be negative, got -1ns"}},
		{"retry base", service(Policy{Retry: Retry{Base: -1}}), []string{"services.orders.retry.base: must not be negative, got -1ns"}},
		{"retry max", service(Policy{Retry: Retry{Max: -1}}), []string{"services.orders.retry.max: must not be negative, got -1ns"}},
		{"base over max", service(Policy{Retry: Retry{Base: 2, Max: 1}}), []string{"services.orders.retry.base: must not be more than retry.max (1ns), got 2ns"}},
		{"idempotent", service(Policy{Idempotent: "yes"}), []string{`services.orders.idempotent: must be "on" or "off", got "yes"`}},
		{"retry mode", service(Policy{Retry: Retry{Mode: "1"}}), []string{`services.orders.retry.mode: must be "on" or "off", got "1"`}},
		{"backup mode", service(Policy{Backup: Backup{Mode: "1"}}), []string{`services.orders.backup.mode: must be "on" or "off", got "1"`}},
		{"backup min", service(Policy{Backup: Backup{Min: -1}}), []string{"services.orders.backup.min: must not be negative, got -1ns"}},
		{"backup factor", service(Policy{Backup: Backup{Factor: 0.5}}), []string{"services.orders.backup.factor: must be between 1 and 1000, got 0.5"}},
		{"backup factor not a number", service(Policy{Backup: Backup{Factor: math.NaN()}}), []string{"services.orders.backup.factor: must be between 1 and 1000, got NaN"}},
		{"budget mode", service(Policy{Budget: Budget{Mode: "1"}}), []string{`services.orders.budget.mode: must be "on" or "off", got "1"`}},
		{"budget", service(Policy{Budget: Budget{Tokens: -1}}), []string{"services.orders.budget.tokens: "}},
		{
			"every mistake of a budget", service(Policy{Budget: Budget{Kind: "grpc", Tokens: -1, Ratio: 2, Floor: 1, Window: 1}}),
			[]string{"services.orders.budget.tokens: ", "services.orders.budget.ratio: ", "services.orders.budget.floor: ", "services.orders.budget.window: "},
		},
		{"kind of a budget", service(Policy{Budget: Budget{Kind: "leaky"}}), []string{`services.orders.budget.kind: must be "success", "grpc", "ratio" or "concurrent", got "leaky"`}},
		{"no field of the kind inherited", service(Policy{Preset: PresetLinkerd, Budget: Budget{Tokens: 5}}), []string{`services.orders.budget.tokens: budgets of kind "ratio" have none`}},
		{"rate limit mode", service(Policy{RateLimit: RateLimit{Mode: "1"}}), []string{`services.orders.rateLimit.mode: must be "on", "off" or "observe", got "1"`}},
		{"limit", service(Policy{Limit: Limit{Mode: "1", Algorithm: "x", Queue: -1}}), []string{`services.orders.limit.mode: must be "on", "off" or "observe", got "1"`, `services.orders.limit.algorithm: must be "fixed", "aimd" or "gradient", got "x"`, "services.orders.limit.queue: "}},
		{"endpoint limit", service(Policy{EndpointLimit: EndpointLimit{Mode: "1", Algorithm: "x", Max: -1}}), []string{`services.orders.endpointLimit.mode: must be "on" or "off", got "1"`, `services.orders.endpointLimit.algorithm: must be "fixed" or "adaptive", got "x"`, "services.orders.endpointLimit.max: "}},
		{"rate limit", service(Policy{RateLimit: RateLimit{Mode: On, Rate: -1, Burst: -1}}), []string{"services.orders.rateLimit.rate: ", "services.orders.rateLimit.burst: "}},
		{"rate limit without a rate", service(Policy{RateLimit: RateLimit{Mode: Observe}}), []string{"services.orders.rateLimit.rate: must be between 0.001 and 1000000, got 0"}},
		{"rate limit of a route without a rate", route(Policy{RateLimit: RateLimit{Mode: On}}), []string{"policies.x.rateLimit.rate: must be between 0.001 and 1000000, got 0"}},
		{"rate limit of all services without a rate", Config{Resolver: discovery.Static{}, Spec: Spec{
			Defaults: Policy{RateLimit: RateLimit{Mode: On}}, Services: map[string]Policy{"orders": {RateLimit: RateLimit{Rate: 5}}},
		}}, []string{"defaults.rateLimit.rate: must be between 0.001 and 1000000, got 0"}},
		{"defaults that contradict their preset", Config{Resolver: discovery.Static{}, Spec: Spec{
			Defaults: Policy{Preset: PresetEnvoy, Outlier: Outlier{MaxEjection: 10 * time.Second}}, Services: map[string]Policy{"orders": {}},
		}}, []string{"defaults.outlier.maxEjection: must not be less than ejection (30s), got 10s"}},
		{"breaker mode", service(Policy{Breaker: Breaker{Mode: "1"}}), []string{`services.orders.breaker.mode: must be "on" or "off", got "1"`}},
		{"breaker", service(Policy{Breaker: Breaker{Mode: On, Ratio: 2, OpenFor: -1, MaxOpenFor: 1, Calls: 1e6}}), []string{
			"services.orders.breaker.ratio: ", "services.orders.breaker.openFor: ", "services.orders.breaker.calls: ",
		}},
		{"infinities", service(Policy{
			Breaker: Breaker{Mode: On, Window: math.MaxInt64, Jitter: math.Inf(-1), SlowFactor: math.Inf(1)}, Throttle: Throttle{Mode: On, K: math.Inf(1), Aggression: math.NaN()},
			RateLimit: RateLimit{Mode: On, Rate: math.NaN()}, Budget: Budget{Kind: "ratio", Floor: math.Inf(-1), Ratio: math.NaN()},
		}), []string{
			"services.orders.breaker.window: must be between 10ms and 24h0m0s, got 2562047h47m16.854775807s", "services.orders.breaker.jitter: must not be above 1, got -Inf",
			"services.orders.breaker.slowFactor: ", "services.orders.throttle.k: ", "services.orders.throttle.aggression: ", "services.orders.rateLimit.rate: ",
			"services.orders.budget.floor: ", "services.orders.budget.ratio: ",
		}},
		{"breaker that observes", service(Policy{Breaker: Breaker{Mode: Observe}}), []string{`services.orders.breaker.mode: must be "on" or "off", got "observe"`}},
		{"throttle", service(Policy{Throttle: Throttle{Mode: "1", K: 0.5, Window: 1, Aggression: -1, MaxRejection: 2}}), []string{
			`services.orders.throttle.mode: must be "on", "off" or "observe", got "1"`, "services.orders.throttle.k: ", "services.orders.throttle.window: ",
			"services.orders.throttle.aggression: ", "services.orders.throttle.maxRejection: ",
		}},
		{"throttle of a route", route(Policy{Throttle: Throttle{Mode: On}}), []string{"policies.x.throttle: belongs to a service, not to a route"}},
		{"breaker of a service", service(Policy{ServiceBreaker: Breaker{Mode: "1", SlowFactor: 0.5}}), []string{
			`services.orders.serviceBreaker.mode: must be "on", "off" or "observe", got "1"`, "services.orders.serviceBreaker.slowFactor: ",
		}},
		{"outlier mode", service(Policy{Outlier: Outlier{Mode: "1"}}), []string{`services.orders.outlier.mode: must be "on" or "off", got "1"`}},
		{"outlier one", service(Policy{Outlier: Outlier{One: "1"}}), []string{`services.orders.outlier.one: must be "on" or "off", got "1"`}},
		{"outlier", service(Policy{Outlier: Outlier{MaxEjected: 2}}), []string{"services.orders.outlier.maxEjected: must be between 0 and 1, got 2"}},
		{"slow start mode", service(Policy{SlowStart: SlowStart{Mode: "1"}}), []string{`services.orders.slowStart.mode: must be "on" or "off", got "1"`}},
		{"slow start", service(Policy{SlowStart: SlowStart{Window: -1}}), []string{"services.orders.slowStart.window: "}},
		{"locality mode", service(Policy{Locality: Locality{Mode: "1"}}), []string{`services.orders.locality.mode: must be "on" or "off", got "1"`}},
		{"locality", service(Policy{Locality: Locality{Low: 3, High: 1}}), []string{"services.orders.locality.high: must not be less than low (3), got 1"}},
		{"outlier of a route", route(Policy{Outlier: Outlier{Mode: Off}}), []string{"policies.x.outlier: belongs to a service, not to a route"}},
		{"slow start of a route", route(Policy{SlowStart: SlowStart{Mode: Off}}), []string{"policies.x.slowStart: belongs to a service, not to a route"}},
		{"health check mode", service(Policy{HealthCheck: HealthCheck{Mode: "1", Unproven: "2", EndEjection: "3"}}), []string{
			`services.orders.healthCheck.mode: must be "on" or "off", got "1"`, "services.orders.healthCheck.unproven: ", "services.orders.healthCheck.endEjection: ",
		}},
		{"health check", service(Policy{HealthCheck: HealthCheck{Mode: Off, Path: "health", Host: "a b", Statuses: "2xx", Port: 70000, Interval: 5}}), []string{
			`services.orders.healthCheck.path: must be a path like "/health", got "health"`, `services.orders.healthCheck.host: must be the name of a host, got "a b"`,
			`services.orders.healthCheck.statuses: must be statuses between 200 and 599 like "200-299,404", got "2xx"`,
			"services.orders.healthCheck.port: must be between 1 and 65535, got 70000", "services.orders.healthCheck.interval: must be at least 10ms, got 5ns",
		}},
		{"health check without a checker", service(Policy{HealthCheck: HealthCheck{Mode: On, Protocol: "http"}}), []string{
			`services.orders.healthCheck.protocol: "http" needs Config.Checkers["http"], such as httpmesh.NewHealthChecker(nil)`,
		}},
		{"health check of an unknown protocol", Config{Resolver: discovery.Static{}, Spec: Spec{Defaults: Policy{HealthCheck: HealthCheck{Mode: On, Protocol: "redis"}}}}, []string{
			`defaults.healthCheck.protocol: there is no checker "redis"`,
		}},
		{"health check that only connects", service(Policy{HealthCheck: HealthCheck{Mode: On, Path: "/health", GRPCService: "orders"}}), []string{
			`services.orders.healthCheck.path: does nothing, as the protocol is "tcp"`, `services.orders.healthCheck.grpcService: does nothing, as the protocol is "tcp"`,
		}},
		{"base over that of the preset", service(Policy{Preset: PresetSpringCloud, Retry: Retry{Base: time.Second}}), []string{
			"services.orders.retry.base: must not be more than retry.max (1ns), got 1s",
		}},
		{"ejection shorter than that of the preset", service(Policy{Preset: PresetEnvoy, Outlier: Outlier{MaxEjection: 10 * time.Second}}), []string{
			"services.orders.outlier.maxEjection: must not be less than ejection (30s), got 10s",
		}},
		{"health check of a route", route(Policy{HealthCheck: HealthCheck{Mode: Off}}), []string{"policies.x.healthCheck: belongs to a service, not to a route"}},
		{"locality of a route", route(Policy{Locality: Locality{Mode: Off}}), []string{"policies.x.locality: belongs to a service, not to a route"}},
		{"defaults", Config{Resolver: discovery.Static{}, Spec: Spec{Defaults: Policy{Timeout: -1}}}, []string{"defaults.timeout: must not be negative"}},
		{"names that differ in case", Config{Resolver: discovery.Static{}, Spec: Spec{Services: map[string]Policy{"Orders": {}, "orders": {}}}}, []string{`services: "Orders" and "orders" differ in case only`}},
		{"no name", Config{Resolver: discovery.Static{}, Spec: Spec{Services: map[string]Policy{"": {}}}}, []string{"services: a name must have 1 to 253 bytes"}},
		{"long name", Config{Resolver: discovery.Static{}, Spec: Spec{Services: map[string]Policy{strings.Repeat("x", 254): {}}}}, []string{"services: a name must have 1 to 253 bytes"}},
		{"policy without a name", Config{Resolver: discovery.Static{}, Spec: Spec{Policies: map[string]Policy{"": {}}}}, []string{"policies: "}},
		{"reports for a route", route(Policy{Balance: "prequal"}), []string{`policies.x.balance: "prequal" goes by what endpoints report`}},
		{"idle parameters of a route", route(Policy{Balance: "random", Hashing: Hashing{Table: 7}}), []string{`policies.x.hashing: does nothing`}},
		{"service breaker of a route", route(Policy{ServiceBreaker: Breaker{Mode: On}}), []string{"policies.x.serviceBreaker: belongs to a service, not to a route"}},
		{"breaker of a route", route(Policy{Breaker: Breaker{Mode: On}}), []string{"policies.x.breaker: belongs to a service, not to a route"}},
		{"warm connections", service(Policy{Connect: Connect{Warm: 101}}), []string{"services.orders.connect.warm: must be between 0 and 100, got 101"}},
		{"server name with a port", service(Policy{Connect: Connect{ServerName: "orders:443"}}), []string{`services.orders.connect.serverName: must be a host name without a port, got "orders:443"`}},
		{"server name that is a URL", service(Policy{Connect: Connect{ServerName: "https://orders"}}), []string{"services.orders.connect.serverName: "}},
		{"backup quantile", service(Policy{Backup: Backup{Quantile: 95}}), []string{"services.orders.backup.quantile: must be between 0.5 and 0.999, got 95"}},
		{"connect of a route", route(Policy{Connect: Connect{Timeout: 1}}), []string{"policies.x.connect: belongs to a service, not to a route"}},
		{
			"unknown policy", Config{Resolver: discovery.Static{}, Spec: Spec{Routes: []routing.Rule{{}, {Policy: "y"}}}},
			[]string{`routes[1].policy: there is no policy "y"`},
		},
		{
			"route", Config{Resolver: discovery.Static{}, Spec: Spec{Routes: []routing.Rule{{Match: routing.Match{Method: "get"}}}}},
			[]string{"routes[0].match.method: "},
		},
		{
			"several", Config{Spec: Spec{
				Services: map[string]Policy{"a": {Timeout: -1, Idempotent: "x"}, "b": {Balance: "y"}},
				Policies: map[string]Policy{"c": {Retry: Retry{Attempts: 6}}},
			}},
			[]string{"resolver: ", "services.a.timeout: ", "services.a.idempotent: ", "services.b.balance: ", "policies.c.retry.attempts: "},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := New(c.cfg)
			if err == nil {
				m.Close()
				t.Fatal("New() accepted it")
			}
			text := strings.TrimPrefix(err.Error(), "zerohop: invalid configuration: ")
			lines := strings.Split(text, "\n")
			if len(lines) != len(c.want) {
				t.Errorf("New() = %q, want %d mistakes", lines, len(c.want))
			}
			for _, want := range c.want {
				if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, want) }) {
					t.Errorf("New() = %q, want a line that begins with %q", lines, want)
				}
			}
		})
	}
}

func TestSpecKnowsNoAlgorithmsOfTheConfig(t *testing.T) {
	spec := Spec{Defaults: Policy{Balance: "mine"}}
	if err := spec.Validate(); err == nil {
		t.Error("Validate() accepted an algorithm it cannot know")
	}
	cfg := Config{Resolver: discovery.Static{}, Spec: spec, Balancers: map[string]loadbalance.Builder{"mine": nil}}
	if m, err := New(cfg); err == nil {
		m.Close()
		t.Error("New() accepted an algorithm that is nil")
	}
	cfg.Balancers["mine"] = loadbalance.Random
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
}

func TestBoundsFitThoseThatAreInherited(t *testing.T) {
	for _, c := range []struct {
		wide, narrow Locality
		want         string
	}{
		{Locality{Low: 0.1}, Locality{High: 0.5}, ""},
		{Locality{High: 10}, Locality{Low: 3}, ""},
		{Locality{}, Locality{High: 0.5}, "services.orders.locality.high: must not be less than low (0.8), got 0.5"},
		{Locality{}, Locality{Low: 3}, "services.orders.locality.high: must not be less than low (3), got 2"},
	} {
		err := Spec{Defaults: Policy{Locality: c.wide}, Services: map[string]Policy{"orders": {Locality: c.narrow}}}.Validate()
		if got := fmt.Sprint(err); err != nil && got != c.want || err == nil && c.want != "" {
			t.Errorf("%+v over %+v: Validate() = %v, want %q", c.narrow, c.wide, err, c.want)
		}
	}
}

func TestRatesAreInherited(t *testing.T) {
	on, rate := Policy{RateLimit: RateLimit{Mode: On}}, Policy{RateLimit: RateLimit{Rate: 5}}
	for name, s := range map[string]Spec{
		"by a service": {Defaults: rate, Services: map[string]Policy{"orders": on}},
		"by a route":   {Defaults: rate, Policies: map[string]Policy{"x": on}, Routes: []routing.Rule{{Policy: "x"}}},
	} {
		if err := s.Validate(); err != nil {
			t.Errorf("Validate() of a rate inherited %s = %v, want nil", name, err)
		}
	}
}

func TestSpecKnowsTheUsualCheckers(t *testing.T) {
	for protocol, want := range map[string]bool{"": true, "tcp": true, "http": true, "https": true, "grpc": true, "redis": false} {
		spec := Spec{Services: map[string]Policy{"orders": {HealthCheck: HealthCheck{Mode: On, Protocol: protocol}}}}
		if err := spec.Validate(); (err == nil) != want {
			t.Errorf("Validate() with the protocol %q = %v, want it good: %v", protocol, err, want)
		}
		cfg := Config{Resolver: discovery.Static{}, Spec: spec, Checkers: map[string]healthcheck.Checker{
			"http": healthcheck.TCP{}, "grpc": healthcheck.TCP{}, "redis": healthcheck.TCP{},
		}}
		m, err := New(cfg)
		if err != nil {
			t.Errorf("New() with a checker for %q = %v", protocol, err)
			continue
		}
		m.Close()
	}
}

// full has every field set to something of its own, made from n.
func full(n int) Policy {
	d, f := time.Duration(n), float64(n)
	mode := []Switch{On, Off}[n%2]
	return Policy{
		Balance: slices.Sorted(maps.Keys(balancers))[n], Timeout: d, AttemptTimeout: 10 * d, ReadTimeout: 20 * d,
		Preset: fmt.Sprint(n), Subset: n, Panic: f / 10, OverProvisioning: f,
		LeastRequest: LeastRequest{Choices: n, Replacement: mode}, Prequal: Prequal{Quantile: f / 3, Pool: n, MaxAge: d, Probes: n, ProbeAge: d, ProbeTimeout: d, ProbeRate: f},
		Utilization: Utilization{Blackout: d, Expiration: d, Update: d, ErrorPenalty: f},
		Hashing:     Hashing{Bound: f, MinRing: n, MaxRing: 2 * n, Table: n},
		Hash:        []HashSource{{Header: fmt.Sprint(n)}, {Cookie: "c", Query: "q", Path: true, Client: true}},
		Idempotent:  mode, Propagate: mode,
		Connect: Connect{Timeout: 100 * d, ServerName: fmt.Sprint(n), MaxAge: d, Warm: n},
		Retry:   Retry{Mode: mode, Attempts: n, Base: d, Max: d},
		Backup:  Backup{Mode: mode, Min: d, Quantile: f / 3, Factor: f},
		Budget:  Budget{Mode: mode, Kind: "ratio", Tokens: f, Ratio: f / 10, Floor: f, Window: d},

		Throttle:  Throttle{Mode: mode, K: f, Window: time.Duration(n) * time.Second, Aggression: f, MaxRejection: f / 10},
		RateLimit: RateLimit{Mode: mode, Rate: f, Burst: n, MaxWait: d},

		Limit: Limit{Mode: mode, Algorithm: fmt.Sprint(n), Max: n, Min: n, Initial: n, Queue: n, MaxWait: d},

		EndpointLimit: EndpointLimit{Mode: mode, Algorithm: fmt.Sprint(n), Max: n, Min: n},

		Breaker: fullBreaker(n), ServiceBreaker: fullBreaker(n + 2),
		Outlier: Outlier{
			Mode: mode, Consecutive: n, FailureRatio: f / 10, MinResponses: n, Deviations: f, MinHosts: 2 + n, MinVolume: n, Latency: 1 + f,
			Window: d, Ejection: d, MaxEjection: 10 * d, Jitter: f / 10, MaxEjected: f / 10, One: mode, Linear: mode, Absolute: mode,
		},
		SlowStart: SlowStart{Mode: mode, Window: d, Min: f / 10, Aggression: f},
		Locality:  Locality{Mode: mode, Low: f, High: 2 * f},
		HealthCheck: HealthCheck{
			Mode: mode, Protocol: fmt.Sprint(n), Path: fmt.Sprint(n), Host: fmt.Sprint(n), Statuses: fmt.Sprint(n), GRPCService: fmt.Sprint(n), Port: n, PortMeta: fmt.Sprint(n),
			Interval: d, FastInterval: d, IdleInterval: d, Timeout: d, Jitter: f / 10, Spread: d, Healthy: n, Unhealthy: n,
			Unproven: mode, EndEjection: mode, InFlight: n, Rate: f,
		},
		Sticky: Sticky{
			Mode: mode, Strict: mode, Header: fmt.Sprint(n), Cookie: Cookie{Name: fmt.Sprint(n), Path: fmt.Sprint(n), TTL: d, Secure: mode},
		},
		Select: Select{
			Mode: mode, Match: map[string]string{"m": fmt.Sprint(n)}, Headers: map[string]string{"h": fmt.Sprint(n)},
			Fallback: []Fallback{FallbackAny, FallbackDefault}[n%2], Default: map[string]string{"d": fmt.Sprint(n)},
		},
	}
}

func fullBreaker(n int) Breaker {
	d, f := time.Duration(n)*time.Millisecond, float64(n)
	return Breaker{
		Mode: []Switch{On, Off}[n%2], Consecutive: uint32(n), Ratio: f / 10, MinRequests: uint32(n), Window: 100 * d, Calls: uint32(n),
		SlowAfter: d, SlowFactor: f, SlowRatio: f / 10, OpenFor: d, MaxOpenFor: 2 * d, Jitter: f / 10, Probes: uint32(n),
	}
}

func TestPolicyTakesUnsetFieldsFromTheWiderOne(t *testing.T) {
	if diff := cmp.Diff(full(2), (Policy{}).over(full(2))); diff != "" {
		t.Errorf("an empty policy does not inherit everything:\n%s", diff)
	}
	if diff := cmp.Diff(full(1), full(1).over(full(2))); diff != "" {
		t.Errorf("a full policy inherits:\n%s", diff)
	}
}

func TestPoliciesRefineEachOther(t *testing.T) {
	m, err := New(Config{Resolver: discovery.Static{}, Spec: Spec{
		Defaults: Policy{Timeout: 1, AttemptTimeout: 1, Retry: Retry{Attempts: 2, Base: 1}},
		Services: map[string]Policy{"orders": {AttemptTimeout: 2, Retry: Retry{Attempts: 4}}},
		Policies: map[string]Policy{"slow": {Retry: Retry{Attempts: 5}, Idempotent: Off}},
		Routes:   []routing.Rule{{Name: "reports", Match: routing.Match{Path: routing.Path{Prefix: "/reports"}}, Policy: "slow"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, c := range []struct {
		service, path string
		options       CallOptions
		want          Policy // as far as it is set
		attempts      int
		idempotent    bool
	}{
		{"orders", "/", CallOptions{}, Policy{Timeout: 1, AttemptTimeout: 2, Retry: Retry{Attempts: 4, Base: 1, Mode: On}}, 4, true},
		{"orders", "/reports/1", CallOptions{}, Policy{Timeout: 1, AttemptTimeout: 2, Retry: Retry{Attempts: 5, Base: 1, Mode: On}}, 5, false},
		{"orders", "/reports/1", CallOptions{Attempts: 1, Idempotent: On}, Policy{Retry: Retry{Attempts: 5}}, 1, true},
		{"other", "/", CallOptions{Idempotent: Off}, Policy{Timeout: 1, AttemptTimeout: 1, Retry: Retry{Attempts: 2, Base: 1}}, 2, false},
	} {
		r := &Request{Request: routing.Request{Service: c.service, Path: c.path}, Idempotent: true}
		target, _, err := m.target(&r.Request, new(uint64))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want.over(target.policy), target.policy); diff != "" {
			t.Errorf("policy of %s%s (-want +got):\n%s", c.service, c.path, diff)
		}
		got := target.limits
		target.limit(&got, nil, 0, r, &c.options)
		if got.Attempts != c.attempts || got.Idempotent != c.idempotent {
			t.Errorf("call of %s%s: attempts %d, idempotent %v, want %d, %v", c.service, c.path, got.Attempts, got.Idempotent, c.attempts, c.idempotent)
		}
	}
}

func TestSpecIsCopied(t *testing.T) {
	sources := []HashSource{{Header: "x-user"}}
	spec := Spec{
		Services: map[string]Policy{},
		Policies: map[string]Policy{"slow": {Retry: Retry{Attempts: 5}, Hash: sources}},
		Routes:   []routing.Rule{{Policy: "slow"}},
	}
	m := open(t, Config{Resolver: orders(1), Spec: spec})
	spec.Services["orders"] = Policy{Timeout: time.Minute}
	spec.Policies["slow"] = Policy{Retry: Retry{Attempts: 1}}
	sources[0].Header = "x-other"
	target, _, err := m.target(&routing.Request{Service: "orders"}, new(uint64))
	if err != nil {
		t.Fatal(err)
	}
	if p := target.policy; p.Retry.Attempts != 5 || p.Timeout != 0 || p.Hash[0].Header != "x-user" {
		t.Errorf("policy = %+v, want that of the time of New", p)
	}
}

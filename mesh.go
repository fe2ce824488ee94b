package zerohop

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/healthcheck"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
	"github.com/zerohop/zerohop/samehost"
)

// Config is the set-up of a Mesh. Spec is what can be kept in a file; the rest is what data cannot hold.
type Config struct {
	// Resolver finds the endpoints of services. Required.
	Resolver discovery.Resolver
	// Spec holds policies and routes. The zero value is a good default.
	Spec Spec
	// Addresses says which addresses a remote Resolver may name, such as a registry. The zero value refuses loopback,
	// link-local and others that no service has; registries that run on the same machine as the services need AllowLoopback.
	// It is checked for each answer, and again for each connection.
	Addresses discovery.AddressPolicy
	// Sockets says which Unix sockets calls to instances on the same host may use in place of TCP, where an instance says that it has
	// one; see package samehost. The zero value allows none, and then the metadata that says so means nothing.
	Sockets samehost.Policy
	// Snapshot is a directory where the last good set of each service is kept, at most a second behind, for a start while the
	// source is out: then calls go to those endpoints until it answers. They are checked as an answer is, Addresses
	// included. Processes that see the same services may share a directory. The zero value means none.
	Snapshot discovery.Snapshot
	// Zone is the failure domain that the process runs in, as the resolver names it. Calls stay in it as long as its
	// endpoints can carry them; see Policy.Locality. Empty means that of the environment variable ZEROHOP_ZONE, or else the
	// one that the source knows if the Resolver is a discovery.ZoneSource, which is asked in the background. Zones do not
	// matter as long as none is known. See Mesh.Zone.
	Zone string
	// Instance names the process among all that call the same services, where Policy.Subset is set: each name has a subset
	// of its own. It should outlive restarts. Empty means the host name, which is the name of the pod in Kubernetes.
	Instance string
	// Peers is how many processes call the same services, with as much to do as this one has, and PeerIndex which of them it is,
	// from 0 on: replicas and ordinal of a StatefulSet. Then subsets give every endpoint the same number of them. 0 means that
	// it is not known: subsets are random then, and PeerIndex must be 0.
	Peers, PeerIndex int
	// Balancers are algorithms of the user's own, by the name that Policy.Balance refers to. One under the name
	// of a built-in algorithm takes its place.
	Balancers map[string]loadbalance.Builder
	// Checkers make active health checks, by the name that HealthCheck.Protocol refers to.
	Checkers map[string]healthcheck.Checker
	// Probers ask the endpoints of services for their load, by the name of the service, where Prequal picks them. They
	// are for calls by Do and for protocols of the user's own: httpmesh and grpcmesh have theirs, which these replace.
	Probers map[string]loadbalance.Prober
	// Classify, if not nil, has the last word on what the answer or the error of an attempt means, unless the
	// attempt was given up. verdict is what zerohop made of it. It must be safe for concurrent use.
	Classify func(call CallInfo, result AttemptResult, verdict resilience.Verdict) resilience.Verdict
	// Hooks observe calls and discovery.
	Hooks Hooks
	// Rand is the source of all randomness, for reproducible runs. It must be safe for concurrent use. nil
	// means math/rand/v2.
	Rand func() uint64
	// StartTimeout is for how long after a service was first asked for, or named in the spec, calls to it wait for the first
	// answer of the resolver, if their contexts allow. Without an answer, later ones fail at once. 0 means 5 s.
	StartTimeout time.Duration
	// Discovery says how far the resolver is trusted.
	Discovery Discovery
}

// maxDynamicServices bounds the services that are watched only because a call named them, so that names from
// a request cannot fill the memory. The one that was idle longest gives way, of those without an Operation in force.
const maxDynamicServices = 1000

// Mesh knows the services, keeps what is learned about them and carries calls to them. It is made by New. Transports
// share it: the state of a service is one, whatever protocol its calls use. All methods are safe for concurrent use.
type Mesh struct {
	cfg      Config // but for the spec
	present  atomic.Pointer[generation]
	overdue  watchdog
	base     time.Time // what the clocks of latencies start from
	observed bool      // there are hooks for calls
	shadow   atomic.Pointer[Shadow]

	ctx    context.Context // ends with Close; watches run under it
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	site      atomic.Pointer[site]
	snapshots *snapshots // nil if there are none
	mu        sync.Mutex // guards writes of present and of its services; taken before that of upstreams
	life      sync.Mutex // guards closed against new tasks; taken after mu
	closed    bool
	updating  sync.Mutex // lets one Update in at a time; taken before mu
	listening sync.Mutex // guards followers, the list of which is not changed in place
	followers []*follower
}

// New checks the configuration and starts to look up the services named in the spec, without waiting for them.
// Its error names the field of every mistake. The Mesh must be closed. The configuration is copied.
func New(cfg Config) (*Mesh, error) {
	var errs []error
	if cfg.Resolver == nil {
		errs = append(errs, errors.New("resolver: must be set"))
	}
	if cfg.StartTimeout < 0 {
		errs = append(errs, fmt.Errorf("startTimeout: must not be negative, got %v", cfg.StartTimeout))
	}
	if err := cfg.Addresses.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("addresses: %w", err))
	}
	if err := cfg.Sockets.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("sockets: %w", err))
	}
	if cfg.Snapshot.MaxAge < 0 {
		errs = append(errs, fmt.Errorf("snapshot.maxAge: must not be negative, got %v", cfg.Snapshot.MaxAge))
	}
	errs = append(errs, cfg.validatePeers(), cfg.Discovery.validate(), cfg.Spec.validate(cfg.Balancers), cfg.Spec.validateCheckers(cfg.Checkers, true))
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("zerohop: invalid configuration: %w", err)
	}
	// Policies are looked up when a service or a route is first used: by then the caller may have changed his maps.
	cfg.Balancers, cfg.Checkers = maps.Clone(cfg.Balancers), maps.Clone(cfg.Checkers)
	probers := make(map[string]loadbalance.Prober, len(cfg.Probers))
	for name, p := range cfg.Probers {
		probers[strings.ToLower(name)] = p
	}
	cfg.Probers = probers
	a := &cfg.Addresses
	a.Allow, a.Only, a.Ports = slices.Clone(a.Allow), slices.Clone(a.Only), slices.Clone(a.Ports)
	cfg.Sockets = cfg.Sockets.Clone()
	if cfg.Rand == nil {
		cfg.Rand = rand.Uint64
	}
	if cfg.Instance == "" {
		cfg.Instance = instance()
	}
	if cfg.StartTimeout == 0 {
		cfg.StartTimeout = 5 * time.Second
	}
	spec := cfg.Spec.clone()
	cfg.Spec = Spec{}
	m := &Mesh{cfg: cfg, base: time.Now()}
	m.overdue.base = m.base
	h := &cfg.Hooks
	m.observed = cfg.Classify != nil || h.CallStart != nil || h.CallDone != nil || h.AttemptStart != nil || h.AttemptDone != nil || h.Refused != nil || h.FellBack != nil || h.Explained != nil
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.site.Store(cfg.site())
	m.snapshots = newSnapshots(cfg.Snapshot)
	table, _ := spec.table() // validate has found no error
	first := m.succeed(nil, spec, table)
	m.enact(first)
	first.settle()
	if m.snapshots != nil {
		m.tasks.Go(func() { m.snapshots.run(m.ctx.Done()) })
	}
	if m.site.Load().asked {
		m.tasks.Go(m.locate)
	}
	if f := cfg.Hooks.Opened; f != nil {
		f(m)
	}
	return m, nil
}

// Close ends the watches, closes idle connections and waits for what runs in the background. Attempts that have
// begun go on to their end, except backups, which are given up; calls that wait for endpoints and new ones fail with
// ErrClosed. It is idempotent and returns nil.
func (m *Mesh) Close() error {
	m.life.Lock()
	first := !m.closed
	m.closed = true
	m.life.Unlock()
	m.cancel()
	m.tasks.Wait()
	if m.snapshots != nil {
		m.snapshots.write()
	}
	m.overdue.stop()
	if f := m.cfg.Hooks.Closed; f != nil && first {
		f(m)
	}
	return nil
}

// Observed reports whether hooks are told of calls: then a transport does well to give them Room.
func (m *Mesh) Observed() bool { return m.observed }

// now returns the time since New, for two thirds of what time.Now takes: it reads the monotonic clock only.
func (m *Mesh) now() time.Duration { return time.Since(m.base) }

// at returns the time that is d after New. What a wall clock would show is off by the steps and sleeps that the machine has
// made since.
func (m *Mesh) at(d time.Duration) time.Time { return m.base.Add(d) }

// later returns the time d after now, or the last there is.
func later(now, d time.Duration) time.Duration { return now + min(d, math.MaxInt64-now) }

// IsService reports whether a URL host means a service rather than a host: it is named in the spec or by a
// route, if by a wildcard only, or it is a single label without a port, and neither "localhost" nor an IP address. Case does not matter.
func (m *Mesh) IsService(host string) bool {
	g, name := m.present.Load(), strings.ToLower(host)
	if s := g.known()[name]; s != nil && s.host {
		return true
	} else if s == nil && isLabel(host) {
		return true
	}
	return g.table.Covers(name)
}

// isLabel reports whether a host is a single label. An IP address has a dot or a colon.
func isLabel(host string) bool {
	return host != "" && len(host) <= maxNameLength && !strings.ContainsAny(host, ".:[]%") &&
		!strings.EqualFold(host, "localhost")
}

// task runs f in the background, unless the mesh is closed. Close waits for it.
func (m *Mesh) task(f func()) bool {
	m.life.Lock()
	defer m.life.Unlock()
	if m.closed {
		return false
	}
	m.tasks.Go(f)
	return true
}

// known returns the services there are, by name in lower case. The map is read-only.
func (m *Mesh) known() map[string]*service { return m.present.Load().known() }

// service returns the service of that name and begins to watch it if it is new.
func (m *Mesh) service(name string) (*service, error) {
	s, err := m.find(name)
	if err == nil {
		s.start()
	}
	return s, err
}

// find returns the service of that name as the present generation has it, which may not be watched yet.
func (m *Mesh) find(name string) (s *service, err error) {
	for s == nil && err == nil {
		s, err = m.findIn(m.present.Load(), strings.ToLower(name))
	}
	return s, err
}

// findIn returns the service of that name, in lower case, as g has it, or nil without an error if there is none and g has been replaced.
func (m *Mesh) findIn(g *generation, name string) (*service, error) {
	if s := g.known()[name]; s != nil {
		return s, nil
	}
	if name == "" || len(name) > maxNameLength {
		return nil, fmt.Errorf("%w: a name must have 1 to %d bytes", discovery.ErrUnknownService, maxNameLength)
	}
	return m.add(g, name)
}

// add returns the service of that name in g, made if there is none. It returns nil without an error if g has been replaced.
func (m *Mesh) add(g *generation, name string) (*service, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.present.Load() != g {
		return nil, nil
	}
	old := g.known()
	if s := old[name]; s != nil {
		return s, nil
	}
	if m.ctx.Err() != nil {
		return nil, ErrClosed
	}
	next := make(map[string]*service, len(old)+1)
	var dynamic int
	var idlest *service
	for k, s := range old {
		next[k] = s
		if s.named {
			continue
		}
		dynamic++
		if !s.busy() && s.operations.count.Load() == 0 && (idlest == nil || s.used.Load() < idlest.used.Load()) {
			idlest = s
		}
	}
	if dynamic >= maxDynamicServices && idlest != nil {
		delete(next, idlest.key)
		idlest.stop(errForgotten)
	}
	x := succession{mesh: m, to: g}
	s := x.service(nil, name, g.spec.complete(Policy{}), false)
	s.now.Store(s)
	next[name] = s
	g.services.Store(&next)
	return s, nil
}

// target finds where a call goes and under which policy, and which match of its rule it fits, -1 without a rule. All of it is of one
// generation. draw is where the random word of the route is kept.
func (m *Mesh) target(r *routing.Request, draw *uint64) (t *target, match int, err error) {
	if name := strings.ToLower(r.Service); name != r.Service {
		folded := *r
		folded.Service, r = name, &folded
	}
	for {
		g := m.present.Load()
		d := routing.Decision{Rule: -1, Match: -1, Backend: -1}
		if g.table != nil {
			if *draw == 0 {
				*draw = m.cfg.Rand()
			}
			if g.table.Timed() {
				dated := *r
				dated.Now, r = time.Now(), &dated
			}
			d = g.table.Route(r, *draw)
		}
		if d.Backend >= 0 {
			return g.backends[d.Rule][d.Backend], d.Match, nil
		}
		if s, err := m.findIn(g, r.Service); s != nil || err != nil {
			if err != nil {
				return nil, -1, err
			}
			return s.target(g, d.Rule), d.Match, nil
		}
	}
}

// Reachable returns the services that calls to the named one can be routed to, those that answer for them by Policy.Fallback,
// and those that get copies of them.
func (m *Mesh) Reachable(name string) []string {
	return m.present.Load().reachable(strings.ToLower(name))
}

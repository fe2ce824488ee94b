package grpcmesh

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/loadbalance"
)

// Resolver returns the builder of resolvers for Targets, for connections whose other dial options the caller chooses.
// Balancing comes with it, and works without the interceptors that DialOptions adds: RPCs are then picked and
// counted, but neither routed nor repeated.
func Resolver(mesh *zerohop.Mesh) resolver.Builder {
	c := Client{Mesh: mesh}
	config, _ := c.configs()
	return &resolverBuilder{mesh: mesh, config: config}
}

// resolverBuilder makes gRPC resolvers that are fed by a mesh.
type resolverBuilder struct {
	mesh   *zerohop.Mesh
	config string      // service config
	near   *neighbours // nil if there are none

	inProcess inProcess
}

func (b *resolverBuilder) Scheme() string { return scheme }

func (b *resolverBuilder) Build(target resolver.Target, cc resolver.ClientConn, opts resolver.BuildOptions) (resolver.Resolver, error) {
	if opts.DisableServiceConfig {
		return nil, errors.New("grpcmesh: service configs are disabled, by which gRPC is told how to balance")
	}
	config := cc.ParseServiceConfig(b.config)
	if config.Err != nil {
		return nil, config.Err
	}
	r := &meshResolver{
		mesh: b.mesh, service: target.Endpoint(), cc: cc, config: config, subs: map[string]*subscription{},
		shared: &shared{near: b.near, inProcess: b.inProcess},
	}
	r.fetch = r.want
	r.unfollow = b.mesh.Follow(r.service, r.follow)
	r.mu.Lock()
	err := r.err
	r.mu.Unlock()
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// link tells the balancer which services it serves. It is all that the resolver hands to gRPC, time and again: who
// gets it looks for the endpoints himself. Ten thousand of them would be copied and compared in several places on
// their way through gRPC.
type link struct {
	service   string                           // that of the target
	balancers map[string]*loadbalance.Balancer // by service in lower case
	*shared
}

// shared is what all links of a resolver have.
type shared struct {
	near       *neighbours // for the dialer; nil if it has no use for it
	inProcess  inProcess
	own        atomic.Pointer[zerohop.Endpoints] // of the service of the target, for RPCs without an attempt; nil if it is not reachable itself
	closed     atomic.Bool                       // the mesh was
	generation atomic.Uint64                     // of the routes that the last link is for
	fetch      func(service string, generation uint64) bool
}

type linkKey struct{}

// drainTime is how long services stay connected that RPCs can no longer be routed to: some began before, and go on. Much longer
// would keep connections that nobody needs; a tenth would close some just before a retry.
const drainTime = 10 * time.Second

// meshResolver tells gRPC which services calls on a connection can be routed to, and when their endpoints change.
type meshResolver struct {
	mesh     *zerohop.Mesh
	service  string // of the target
	cc       resolver.ClientConn
	config   *serviceconfig.ParseResult
	unfollow func()
	tasks    sync.WaitGroup
	*shared

	subscribing sync.Mutex // lets one change of subs in at a time; taken before the others
	telling     sync.Mutex // held while gRPC is told, the last link last; taken before mu

	mu     sync.Mutex               // guards what follows; not held while gRPC or the mesh is called
	subs   map[string]*subscription // by service in lower case
	link   *link                    // the last one; nil before the first
	drain  *time.Timer              // of services that are no longer wanted
	wanted []string
	err    error // why a service could not be subscribed to: the mesh is closed
	ended  bool
}

// subscription is that to the endpoints of a service.
type subscription struct {
	stop  func()
	known zerohop.Endpoints
	since time.Time // when it was last wanted; zero if it still is
}

// follow takes over where calls can be routed to now.
func (r *meshResolver) follow(to zerohop.Routes) {
	r.subscribing.Lock()
	defer r.subscribing.Unlock()
	r.mu.Lock()
	r.wanted = to.Services
	for name, s := range r.subs {
		if slices.Contains(to.Services, name) {
			s.since = time.Time{}
		} else if s.since.IsZero() {
			s.since = time.Now()
		}
	}
	r.mu.Unlock()
	for _, name := range to.Services {
		if err := r.subscribe(name); err != nil {
			r.mu.Lock()
			r.err = err
			r.mu.Unlock()
		}
	}
	r.relink()
	r.generation.Store(to.Generation)
	r.mu.Lock()
	r.drainLater()
	r.mu.Unlock()
	r.tell()
}

// subscribe subscribes to a service. r.subscribing is held.
func (r *meshResolver) subscribe(name string) error {
	s := &subscription{}
	r.mu.Lock()
	if r.ended || r.subs[name] != nil {
		r.mu.Unlock()
		return nil
	}
	r.subs[name] = s
	r.mu.Unlock()
	stop, err := r.mesh.Subscribe(name, func(e zerohop.Endpoints) { r.update(name, s, e) })
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.stop = stop; err != nil {
		delete(r.subs, name)
	}
	return err
}

// relink makes another link if other balancers serve than those of the last one. It reports whether it did.
func (r *meshResolver) relink() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := &link{service: r.service, balancers: make(map[string]*loadbalance.Balancer, len(r.subs)), shared: r.shared}
	for name, s := range r.subs {
		if s.known.Balancer != nil {
			next.balancers[name] = s.known.Balancer
		}
	}
	if r.link != nil && maps.Equal(r.link.balancers, next.balancers) {
		return false
	}
	r.link = next
	return true
}

// drainLater has services let go that are no longer wanted. r.mu is held.
func (r *meshResolver) drainLater() {
	if r.drain != nil || r.ended {
		return
	}
	for _, s := range r.subs {
		if !s.since.IsZero() {
			r.tasks.Add(1)
			r.drain = time.AfterFunc(drainTime, func() {
				defer r.tasks.Done()
				r.letGo()
			})
			return
		}
	}
}

// letGo ends the subscriptions that have not been wanted for long.
func (r *meshResolver) letGo() {
	r.subscribing.Lock()
	defer r.subscribing.Unlock()
	var stops []func()
	r.mu.Lock()
	r.drain = nil
	for name, s := range r.subs {
		if !s.since.IsZero() && time.Since(s.since) >= drainTime {
			stops = append(stops, s.stop)
			delete(r.subs, name)
		}
	}
	r.drainLater()
	r.mu.Unlock()
	for _, stop := range stops {
		stop()
	}
	if r.relink() {
		r.tell()
	}
}

// want has a service served that an RPC is routed to which began under another generation of routes than the last link is for. It
// returns false if that makes no difference.
func (r *meshResolver) want(service string, generation uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return false
	}
	if r.subs[strings.ToLower(service)] != nil {
		return true // a link is on its way
	}
	if now := r.generation.Load(); generation == now {
		return false
	} else if generation < now {
		r.tasks.Go(func() {
			r.subscribing.Lock()
			defer r.subscribing.Unlock()
			name := strings.ToLower(service)
			if r.subscribe(name) != nil {
				return
			}
			r.mu.Lock()
			if s := r.subs[name]; s != nil && !slices.Contains(r.wanted, name) {
				s.since = time.Now()
			}
			r.drainLater()
			r.mu.Unlock()
			if r.relink() {
				r.tell()
			}
		})
	}
	return true // or it is on its way
}

// update takes what is known of a service.
func (r *meshResolver) update(name string, s *subscription, e zerohop.Endpoints) {
	r.mu.Lock()
	other := s.known.Balancer != e.Balancer
	s.known = e
	linked := r.link != nil
	if strings.EqualFold(name, r.service) {
		r.own.Store(&e)
	}
	r.mu.Unlock()
	if linked {
		if other {
			r.relink()
		}
		r.tell()
	}
}

// tell hands the link to gRPC as soon as a service is known, and errors before that. Two may do so at a time: what they
// say does not depend on the order, but for which link is the last.
func (r *meshResolver) tell() {
	var known bool
	var err error
	r.telling.Lock()
	defer r.telling.Unlock()
	r.mu.Lock()
	for _, s := range r.subs {
		e := &s.known
		known = known || e.Known
		if err == nil {
			err = e.Err
		}
		if errors.Is(e.Err, zerohop.ErrClosed) {
			r.closed.Store(true) // which RPCs that wait are to find
			known = true
		}
	}
	link := r.link
	r.mu.Unlock()
	switch {
	case link == nil:
	case known:
		// That gRPC does not like a state says only that it will ask again. There is nothing to ask.
		_ = r.cc.UpdateState(resolver.State{ServiceConfig: r.config, Attributes: attributes.New(linkKey{}, link)})
	case err != nil:
		r.cc.ReportError(err)
	}
}

// ResolveNow does nothing: changes come by themselves.
func (r *meshResolver) ResolveNow(resolver.ResolveNowOptions) {}

func (r *meshResolver) Close() {
	r.unfollow()
	r.mu.Lock()
	r.ended = true
	if r.drain != nil && r.drain.Stop() {
		r.tasks.Done()
	}
	r.mu.Unlock()
	r.tasks.Wait()
	for _, s := range r.subs {
		if s.stop != nil {
			s.stop()
		}
	}
}

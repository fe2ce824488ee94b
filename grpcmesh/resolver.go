package grpcmesh

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"

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
	config string // service config
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
	services := b.mesh.Reachable(target.Endpoint())
	r := &meshResolver{
		cc: cc, config: config, known: make([]zerohop.Endpoints, len(services)),
		link: &link{service: target.Endpoint(), balancers: map[string]*loadbalance.Balancer{}},
	}
	for i, name := range services {
		stop, err := b.mesh.Subscribe(name, func(e zerohop.Endpoints) { r.update(i, e) })
		if err != nil {
			r.Close()
			return nil, err
		}
		r.stops = append(r.stops, stop)
	}
	r.mu.Lock()
	for i, name := range services {
		r.link.balancers[name] = r.known[i].Balancer
		if strings.EqualFold(name, r.link.service) {
			first := r.known[i] // what comes later may be written while it is used
			r.link.hash = first.Hash
		}
	}
	r.linked = true
	r.mu.Unlock()
	r.tell()
	return r, nil
}

// link tells the balancer which services it serves. It is all that the resolver hands to gRPC, time and again: who
// gets it looks for the endpoints himself. Ten thousand of them would be copied and compared in several places on
// their way through gRPC.
type link struct {
	service   string                                      // that of the target
	balancers map[string]*loadbalance.Balancer            // by service in lower case
	hash      func(context.Context, zerohop.Keyed) uint64 // of RPCs without an attempt; nil if service is not reachable itself
	closed    atomic.Bool                                 // the mesh was
}

type linkKey struct{}

// meshResolver tells gRPC when the endpoints change of a service that calls on a connection can be routed to.
type meshResolver struct {
	cc     resolver.ClientConn
	config *serviceconfig.ParseResult
	link   *link // but for closed, immutable once linked
	stops  []func()

	mu     sync.Mutex // guards what follows; not held while gRPC is told
	known  []zerohop.Endpoints
	linked bool
}

// update takes what is known of service i.
func (r *meshResolver) update(i int, e zerohop.Endpoints) {
	r.mu.Lock()
	r.known[i] = e
	linked := r.linked
	r.mu.Unlock()
	if linked {
		r.tell()
	}
}

// tell hands the link to gRPC as soon as a service is known, and errors before that. Two may do so at a time: what they
// say does not depend on the order.
func (r *meshResolver) tell() {
	var known bool
	var err error
	r.mu.Lock()
	for _, e := range r.known {
		known = known || e.Known
		if err == nil {
			err = e.Err
		}
		if errors.Is(e.Err, zerohop.ErrClosed) {
			r.link.closed.Store(true) // which RPCs that wait are to find
			known = true
		}
	}
	r.mu.Unlock()
	switch {
	case known:
		// That gRPC does not like a state says only that it will ask again. There is nothing to ask.
		_ = r.cc.UpdateState(resolver.State{ServiceConfig: r.config, Attributes: attributes.New(linkKey{}, r.link)})
	case err != nil:
		r.cc.ReportError(err)
	}
}

// ResolveNow does nothing: changes come by themselves.
func (r *meshResolver) ResolveNow(resolver.ResolveNowOptions) {}

func (r *meshResolver) Close() {
	for _, stop := range r.stops {
		stop()
	}
}

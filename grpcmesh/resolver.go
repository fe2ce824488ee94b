package grpcmesh

import (
	"errors"
	"slices"
	"sync"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/resolver"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/loadbalance"
)

// serviceConfig selects the balancer of this package.
const serviceConfig = `{"loadBalancingConfig":[{"` + balancerName + `":{}}]}`

// resolverBuilder makes gRPC resolvers that are fed by a mesh.
type resolverBuilder struct{ mesh *zerohop.Mesh }

func (b *resolverBuilder) Scheme() string { return scheme }

func (b *resolverBuilder) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	r := &meshResolver{cc: cc, link: &link{service: target.Endpoint(), balancers: map[string]*loadbalance.Balancer{}}}
	r.config = cc.ParseServiceConfig(serviceConfig)
	if r.config.Err != nil {
		return nil, r.config.Err
	}
	services := b.mesh.Reachable(r.link.service)
	r.known = make([]zerohop.Endpoints, len(services))
	for i, name := range services {
		stop, err := b.mesh.Subscribe(name, func(e zerohop.Endpoints) { r.update(i, name, e) })
		if err != nil {
			r.Close()
			return nil, err
		}
		r.mu.Lock()
		r.stops = append(r.stops, stop)
		r.mu.Unlock()
	}
	return r, nil
}

// link tells the balancer which services it serves. It is part of the state that the resolver hands to gRPC.
type link struct {
	service   string // that of the target
	balancers map[string]*loadbalance.Balancer
}

type linkKey struct{}

// meshResolver gives gRPC the endpoints of all services that calls on a connection can be routed to.
type meshResolver struct {
	cc     resolver.ClientConn
	config parsedConfig

	mu    sync.Mutex // guards what follows; held while gRPC is told
	link  *link      // immutable once told
	known []zerohop.Endpoints
	stops []func()
}

func (r *meshResolver) update(i int, name string, e zerohop.Endpoints) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known[i] = e
	next := &link{service: r.link.service, balancers: map[string]*loadbalance.Balancer{name: e.Balancer}}
	for k, v := range r.link.balancers {
		next.balancers[k] = v
	}
	r.link = next
	if !e.Known {
		if e.Err != nil && !slices.ContainsFunc(r.known, func(e zerohop.Endpoints) bool { return e.Known }) {
			r.cc.ReportError(e.Err)
		}
		return
	}
	state := resolver.State{ServiceConfig: r.config, Attributes: attributes.New(linkKey{}, next)}
	seen := map[string]bool{}
	for _, k := range r.known {
		if !k.Known {
			continue
		}
		for _, n := range k.Balancer.Set().Nodes() {
			if !seen[n.Addr()] {
				seen[n.Addr()] = true
				state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: n.Addr()}}})
			}
		}
	}
	// An error only says that gRPC asks again when there are no endpoints. There is nothing to ask: changes
	// come by themselves.
	if err := r.cc.UpdateState(state); err != nil && len(state.Endpoints) > 0 {
		r.cc.ReportError(errors.Join(errors.New("grpcmesh: endpoints refused"), err))
	}
}

// ResolveNow does nothing: changes come by themselves.
func (r *meshResolver) ResolveNow(resolver.ResolveNowOptions) {}

func (r *meshResolver) Close() {
	r.mu.Lock()
	stops := r.stops
	r.stops = nil
	r.mu.Unlock()
	for _, stop := range stops {
		stop()
	}
}

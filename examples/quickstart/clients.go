package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/internal/echopb"
)

// clients are an HTTP and a gRPC client of the same kind.
type clients struct {
	http  *http.Client
	grpc  *grpc.ClientConn
	close func()
}

// zerohopClients is all that a program does to put its clients on a mesh. The rest of it stays as it is.
func zerohopClients(registry discovery.Resolver) (*clients, error) {
	mesh, err := zerohop.New(zerohop.Config{Resolver: registry})
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: httpmesh.NewTransport(mesh, nil)}
	conn, err := grpc.NewClient(grpcmesh.Target(grpcService),
		append(grpcmesh.DialOptions(mesh), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		_ = mesh.Close()
		return nil, err
	}
	return &clients{client, conn, func() {
		_ = conn.Close()
		client.CloseIdleConnections()
		_ = mesh.Close()
	}}, nil
}

// plainClients are what programs use without a mesh: net/http over the instances in the registry in turn, and
// round_robin of grpc-go over the same ones. Neither repeats a call.
func plainClients(registry discovery.Resolver) (*clients, error) {
	conn, err := grpc.NewClient(plainScheme+":///"+grpcService, grpc.WithResolvers(&plainResolver{registry: registry}),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`), grpc.WithNoProxy(),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	turns := &roundRobin{base: http.DefaultTransport.(*http.Transport).Clone()}
	known := make(chan struct{})
	once := sync.OnceFunc(func() { close(known) })
	stop := watch(registry, httpService, func(set []discovery.Endpoint) {
		turns.endpoints.Store(&set)
		once()
	})
	<-known
	client := &http.Client{Transport: turns}
	return &clients{client, conn, func() {
		_ = conn.Close()
		stop()
		client.CloseIdleConnections()
	}}, nil
}

// watch calls update with the endpoints of a service until stop is called, which waits for the end of the watch.
func watch(registry discovery.Resolver, service string, update func([]discovery.Endpoint)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() { _ = registry.Watch(ctx, service, update) }) // it ends with ctx
	return func() {
		cancel()
		watching.Wait()
	}
}

// roundRobin sends requests to the instances of a service in turn.
type roundRobin struct {
	base      *http.Transport
	endpoints atomic.Pointer[[]discovery.Endpoint]
	turn      atomic.Uint64
}

// CloseIdleConnections is what http.Client looks for.
func (r *roundRobin) CloseIdleConnections() { r.base.CloseIdleConnections() }

// RoundTrip implements http.RoundTripper.
func (r *roundRobin) RoundTrip(req *http.Request) (*http.Response, error) {
	set := *r.endpoints.Load()
	if len(set) == 0 {
		return nil, fmt.Errorf("no instances of %s", req.URL.Host)
	}
	req = req.Clone(req.Context())
	req.URL.Host = set[r.turn.Add(1)%uint64(len(set))].Addr
	return r.base.RoundTrip(req)
}

const plainScheme = "quickstart"

// plainResolver tells grpc-go what the registry lists.
type plainResolver struct {
	registry discovery.Resolver
	stop     func()
}

// Scheme implements resolver.Builder.
func (*plainResolver) Scheme() string { return plainScheme }

// Build implements resolver.Builder.
func (p *plainResolver) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	stop := watch(p.registry, target.Endpoint(), func(set []discovery.Endpoint) {
		var state resolver.State
		for _, e := range set {
			state.Addresses = append(state.Addresses, resolver.Address{Addr: e.Addr})
		}
		_ = cc.UpdateState(state) // an empty set is an error to gRPC; the next one heals it
	})
	return &plainResolver{p.registry, stop}, nil
}

// ResolveNow implements resolver.Resolver: a watch needs no reminder.
func (*plainResolver) ResolveNow(resolver.ResolveNowOptions) {}

// Close implements resolver.Resolver.
func (p *plainResolver) Close() { p.stop() }

// A call is one call of a client. The tag tells it from others.
type call func(ctx context.Context, tag string) error

// get calls the backends over HTTP.
func (c *clients) get(ctx context.Context, tag string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+httpService+"/hello?"+tag, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", resp.Status)
	}
	return nil
}

// say calls the backends over gRPC.
func (c *clients) say(ctx context.Context, tag string) error {
	_, err := echopb.NewEchoClient(c.grpc).Say(ctx, &echopb.SayRequest{Text: tag})
	return err
}

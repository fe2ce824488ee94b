package xds

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/porttest"
)

const nodeID = "client-1"

// plane is a control plane built on go-control-plane.
type plane struct {
	cache   cache.SnapshotCache
	version int
	server  *grpc.Server
	stopped chan struct{}
}

// startPlane serves a plane that knows nothing yet.
func startPlane(l net.Listener, options ...grpc.ServerOption) *plane {
	p := &plane{
		cache:   cache.NewSnapshotCache(false, cache.IDHash{}, nil),
		server:  grpc.NewServer(options...),
		stopped: make(chan struct{}),
	}
	ctx, cancel := context.WithCancel(context.Background())
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(p.server, server.NewServer(ctx, p.cache, nil))
	go func() { // ended and awaited by stop
		defer close(p.stopped)
		defer cancel()
		_ = p.server.Serve(l)
	}()
	return p
}

func (p *plane) stop() {
	p.server.Stop()
	<-p.stopped
}

// servePlane is the control plane in a process of its own. It reads the services it is to serve from standard input, one JSON
// object a line, answers each with a line, and ends with the input.
func servePlane(addr string) {
	l, err := porttest.Again(addr)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	p := startPlane(l)
	fmt.Println(l.Addr())
	for lines := json.NewDecoder(os.Stdin); ; {
		var services map[string][]discovery.Endpoint
		if err := lines.Decode(&services); err != nil {
			return
		}
		fmt.Println(p.set(services))
	}
}

// set makes the plane serve exactly the given services, each as a cluster of its name.
func (p *plane) set(services map[string][]discovery.Endpoint) error {
	clusters, loads := make([]types.Resource, 0, len(services)), make([]types.Resource, 0, len(services))
	for name, endpoints := range services {
		clusters = append(clusters, edsCluster(name))
		loads = append(loads, loadOf(name, endpoints...))
	}
	return p.serve(clusters, loads)
}

func (p *plane) serve(clusters, loads []types.Resource) error {
	p.version++
	snapshot, err := cache.NewSnapshot(strconv.Itoa(p.version), map[string][]types.Resource{
		clusterType: clusters, assignmentType: loads,
	})
	if err != nil {
		return err
	}
	return p.cache.SetSnapshot(context.Background(), nodeID, snapshot)
}

var adsSource = &corev3.ConfigSource{
	ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
	ResourceApiVersion:    corev3.ApiVersion_V3,
}

func edsCluster(name string) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: adsSource},
	}
}

// loadOf returns a ClusterLoadAssignment that gives the endpoints their zone, priority, weight and health.
func loadOf(name string, endpoints ...discovery.Endpoint) *endpointv3.ClusterLoadAssignment {
	load := &endpointv3.ClusterLoadAssignment{ClusterName: name}
	type place struct {
		zone     string
		priority uint8
	}
	at := make(map[place]*endpointv3.LocalityLbEndpoints)
	for _, e := range endpoints {
		where := place{e.Zone, e.Priority}
		if at[where] == nil {
			at[where] = &endpointv3.LocalityLbEndpoints{Priority: uint32(e.Priority), Locality: &corev3.Locality{Zone: e.Zone}}
			load.Endpoints = append(load.Endpoints, at[where])
		}
		lb := lbEndpoint(socketAddress(e.Addr))
		if e.Weight > 0 {
			lb.LoadBalancingWeight = wrapperspb.UInt32(e.Weight)
		}
		at[where].LbEndpoints = append(at[where].LbEndpoints, lb)
	}
	return load
}

func lbEndpoint(addr *corev3.Address) *endpointv3.LbEndpoint {
	return &endpointv3.LbEndpoint{
		HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: addr}},
	}
}

func socketAddress(addr string) *corev3.Address {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		panic(err)
	}
	n, err := strconv.ParseUint(port, 10, 32)
	if err != nil {
		panic(err)
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(n)},
	}}}
}

// manyEndpoints returns endpoints in the documentation range and its neighbours.
func manyEndpoints(n int) []discovery.Endpoint {
	set := make([]discovery.Endpoint, n)
	addr := netip.MustParseAddr("198.18.0.1")
	for i := range set {
		set[i] = discovery.Endpoint{Addr: netip.AddrPortFrom(addr, 8080).String(), Weight: 1, Zone: fmt.Sprintf("zone-%d", i%3)}
		addr = addr.Next()
	}
	return set
}

// resolverOf returns a resolver for the server, with short times for what happens after watches end.
func resolverOf(t testing.TB, server string, change func(*Config)) *Resolver {
	t.Helper()
	config := Config{Server: server, Credentials: insecure.NewCredentials(), Node: Node{ID: nodeID}}
	if change != nil {
		change(&config)
	}
	r, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	return r
}

// patience is how long things may take that have no bound of their own.
const patience = 15 * time.Second

// follower reads what discovery.Run publishes of a service.
type follower struct {
	t      testing.TB
	sets   chan []discovery.Endpoint
	events chan discovery.Event
}

// follow runs discovery of service until the test ends.
func follow(t testing.TB, r discovery.Resolver, service string, opts discovery.RunOptions) *follower {
	f := &follower{t: t, sets: make(chan []discovery.Endpoint, 1000), events: make(chan discovery.Event, 1000)}
	opts.Observe = func(e discovery.Event) {
		select {
		case f.events <- e:
		default:
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { // ended and awaited by the cleanup
		defer close(done)
		_ = discovery.Run(ctx, r, service, opts, func(set []discovery.Endpoint) { f.sets <- set })
	}()
	t.Cleanup(func() { cancel(); <-done })
	return f
}

// until reads sets until one has exactly the given addresses, and returns it.
func (f *follower) until(want ...string) []discovery.Endpoint {
	f.t.Helper()
	slices.Sort(want)
	late := time.After(patience)
	var last []string
	for {
		select {
		case set := <-f.sets:
			if last = addrsOf(set); slices.Equal(last, want) {
				return set
			}
		case <-late:
			f.t.Fatalf("the set is %v after %v, want %v", last, patience, want)
		}
	}
}

// failure waits for the next failed watch and returns its error.
func (f *follower) failure() error {
	f.t.Helper()
	late := time.After(2 * time.Minute)
	for {
		select {
		case e := <-f.events:
			if e.Kind == discovery.EventWatchFailed {
				return e.Err
			}
		case <-late:
			f.t.Fatal("no failure within 2 min")
		}
	}
}

// same checks that nothing was published.
func (f *follower) same() {
	f.t.Helper()
	select {
	case set := <-f.sets:
		f.t.Errorf("the set became %v, want no change", addrsOf(set))
	default:
	}
}

func addrsOf(set []discovery.Endpoint) []string {
	list := []string{}
	for _, e := range set {
		list = append(list, e.Addr)
	}
	slices.Sort(list)
	return list
}

// staticCluster returns a cluster with its endpoints in it.
func staticCluster(name string, addrs ...string) *clusterv3.Cluster {
	var set []discovery.Endpoint
	for _, addr := range addrs {
		set = append(set, discovery.Endpoint{Addr: addr})
	}
	return &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		LoadAssignment:       loadOf(name, set...),
	}
}

// serviceAt returns the service "orders" with the addresses.
func serviceAt(addrs ...string) map[string][]discovery.Endpoint {
	var set []discovery.Endpoint
	for _, addr := range addrs {
		set = append(set, discovery.Endpoint{Addr: addr})
	}
	return map[string][]discovery.Endpoint{"orders": set}
}

package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// plane is a control plane that serves one cluster, without TLS.
type plane struct {
	addr    string
	cache   cache.SnapshotCache
	version int
	// generator is set once a node asks with the metadata GENERATOR "grpc".
	generator atomic.Bool
}

func startPlane(t *testing.T) *plane {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &plane{addr: l.Addr().String(), cache: cache.NewSnapshotCache(false, cache.IDHash{}, nil)}
	grpcServer := grpc.NewServer()
	ctx, cancel := context.WithCancel(context.Background())
	seen := server.CallbackFuncs{StreamRequestFunc: func(_ int64, req *discoveryv3.DiscoveryRequest) error {
		if req.GetNode().GetMetadata().GetFields()["GENERATOR"].GetStringValue() == "grpc" {
			p.generator.Store(true)
		}
		return nil
	}}
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(grpcServer, server.NewServer(ctx, p.cache, seen))
	served := make(chan error, 1)
	go func() { served <- grpcServer.Serve(l) }() // ended by the cleanup
	t.Cleanup(func() {
		grpcServer.Stop()
		cancel()
		if err := <-served; err != nil {
			t.Errorf("control plane: %v", err)
		}
	})
	return p
}

// set makes the cluster consist of the hosts, for the given node.
func (p *plane) set(t *testing.T, node, cluster string, hosts ...string) {
	t.Helper()
	group := &endpointv3.LocalityLbEndpoints{
		Locality: &corev3.Locality{Zone: "eu-1a"}, LoadBalancingWeight: wrapperspb.UInt32(1),
	}
	for _, host := range hosts {
		group.LbEndpoints = append(group.LbEndpoints, &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{
			Endpoint: &endpointv3.Endpoint{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{
				SocketAddress: &corev3.SocketAddress{Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 8080}},
			}}},
		}})
	}
	ads := &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
	}
	p.version++
	snapshot, err := cache.NewSnapshot(strconv.Itoa(p.version), map[resource.Type][]types.Resource{
		resource.ClusterType: {&clusterv3.Cluster{
			Name:                 cluster,
			ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
			EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads},
		}},
		resource.EndpointType: {&endpointv3.ClusterLoadAssignment{
			ClusterName: cluster, Endpoints: []*endpointv3.LocalityLbEndpoints{group},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cache.SetSnapshot(t.Context(), node, snapshot); err != nil {
		t.Fatal(err)
	}
}

func TestXDSIsAskedForTheCluster(t *testing.T) {
	p := startPlane(t)
	const cluster, node = "outbound|80||orders.shop", "zerohop-endpoints"
	p.set(t, node, cluster, "10.0.0.1")
	p.set(t, "client-1", "orders", "10.0.0.9")
	from := "xds://" + p.addr + "?plaintext=true"
	const named = "&cluster=outbound|80||{service}.shop"

	next := watching(t, "orders", "--from", from+named)
	if got, want := next(), "+ 10.0.0.1:8080 weight=1 zone=eu-1a health=healthy"; got != want {
		t.Errorf("line %q, want %q", got, want)
	}
	p.set(t, node, cluster, "10.0.0.2", "10.0.0.1")
	if got, want := next(), "+ 10.0.0.2:8080 weight=1 zone=eu-1a health=healthy"; got != want {
		t.Errorf("line %q, want %q", got, want)
	}
	p.set(t, node, cluster, "10.0.0.2")
	if got, want := next(), "- 10.0.0.1:8080"; got != want {
		t.Errorf("line %q, want %q", got, want)
	}
	if p.generator.Load() {
		t.Error("there is a generator, want none")
	}

	t.Setenv("GRPC_XDS_BOOTSTRAP_CONFIG", fmt.Sprintf(
		`{"xds_servers":[{"server_uri":%q,"channel_creds":[{"type":"insecure"}]}],"node":{"id":"client-1"}}`, p.addr))
	for _, test := range []struct {
		service, from  string
		code           int
		stdout, stderr string
	}{
		{"orders", from + named + "&generator=grpc", exitOK, "10.0.0.2:8080", ""},
		{"orders", from + "&node=client-1", exitOK, "10.0.0.9:8080", ""},
		{"orders", "xds:", exitOK, "10.0.0.9:8080", ""},
		{"orders", from, exitNone, "(no endpoints)", "zerohop: discovery: unknown service"},
		{"nobody", from + named, exitNone, "(no endpoints)", `"outbound|80||nobody.shop"`},
	} {
		code, stdout, stderr := zerohop(t.Context(), "endpoints", test.service, "--from", test.from, "--once")
		if code != test.code || !strings.Contains(stdout, test.stdout) || !strings.Contains(stderr, test.stderr) || (stderr == "") != (test.stderr == "") {
			t.Errorf("%s from %s: code %d, %q, %q, want %d, %q, %q", test.service, test.from, code, stdout, stderr, test.code, test.stdout, test.stderr)
		}
	}
	if !p.generator.Load() {
		t.Error("the plane was not told the generator")
	}

	next = watching(t, "orders", "--from", "xds://"+p.addr+"?cluster=orders")
	if got, want := next(), "TLS handshake"; !strings.HasPrefix(got, "! failed, again in ") || !strings.Contains(got, want) {
		t.Errorf("TLS with a plane that has none: line %q, want a failure with %q in it", got, want)
	}
}

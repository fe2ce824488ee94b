package xds_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/xds"
	"github.com/zerohop/zerohop/httpmesh"
)

// startPlane serves a control plane whose cluster "orders.shop" has one endpoint, and returns its address.
func startPlane(endpoint net.Addr) (addr string, stop func()) {
	at := endpoint.(*net.TCPAddr)
	cluster := &clusterv3.Cluster{
		Name:                 "orders.shop",
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{EdsConfig: &corev3.ConfigSource{
			ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		}},
	}
	load := &endpointv3.ClusterLoadAssignment{
		ClusterName: "orders.shop",
		Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
				Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
					Address: at.IP.String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(at.Port)},
				}}},
			}},
		}}}},
	}
	snapshot, err := cache.NewSnapshot("1", map[resource.Type][]types.Resource{
		resource.ClusterType: {cluster}, resource.EndpointType: {load},
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	snapshots := cache.NewSnapshotCache(false, cache.IDHash{}, nil)
	if err := snapshots.SetSnapshot(ctx, "client-1", snapshot); err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	plane := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(plane, server.NewServer(ctx, snapshots, nil))
	done := make(chan struct{})
	go func() { // ended and awaited by stop
		defer close(done)
		_ = plane.Serve(listener)
	}()
	return listener.Addr().String(), func() { cancel(); plane.Stop(); <-done }
}

// A plain http.Client that a control plane drives.
func Example() {
	orders := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "two books") }))
	defer orders.Close()
	plane, stop := startPlane(orders.Listener.Addr())
	defer stop()

	resolver, err := xds.New(xds.Config{
		Server:      plane,
		Credentials: insecure.NewCredentials(),
		Node:        xds.Node{ID: "client-1"},
		Cluster:     func(service string) string { return service + ".shop" },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer resolver.Close()
	mesh, err := zerohop.New(zerohop.Config{
		Resolver:  resolver,
		Addresses: discovery.AddressPolicy{AllowLoopback: true}, // all of the example is on one machine
	})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()

	transport := httpmesh.NewTransport(mesh, nil)
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	resp, err := client.Get("http://orders/v1/orders/42")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, string(body), err)
	// Output: 200 two books <nil>
}

//go:build unix

package outage

import (
	"context"
	"net"
	"path/filepath"
	"strconv"
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
	"google.golang.org/grpc/credentials/insecure"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery/xds"
)

func xdsFaults(*testing.T) map[string]build {
	// with returns a cell behind a gate that can have a fault.
	with := func(f rpcFault, change func(*cell)) build {
		return func(t *testing.T, service string) *cell {
			c, g, _ := xdsCell(t, service)
			c.begin, c.heal = g.begin(f), g.heal
			if change != nil {
				change(c)
			}
			return c
		}
	}
	return map[string]build{
		"stopped": func(t *testing.T, service string) *cell {
			c, g, _ := xdsCell(t, service)
			c.begin, c.heal = g.door.shut, g.door.reopen
			return c
		},
		"killed": func(t *testing.T, service string) *cell {
			c, g, p := xdsCell(t, service)
			c.begin = func(t testing.TB) {
				g.door.shut(t)
				p.stop()
			}
			c.heal = func(t testing.TB) {
				p.start(t) // with versions from 1 on again
				g.door.reopen(t)
			}
			c.mute = true
			return c
		},
		"frozen": func(t *testing.T, service string) *cell {
			c, g, _ := xdsCell(t, service)
			c.begin, c.heal = g.door.freeze, g.door.thaw
			return c
		},
		"deaf": func(t *testing.T, service string) *cell {
			c, g, _ := xdsCell(t, service)
			c.begin, c.over, c.bound = g.door.deafen, true, unnoticed
			return c
		},
		"garbage":   with(rpcFault{from: spoil()}, nil),
		"throttled": with(rpcFault{refusal: errThrottled}, func(c *cell) { c.bound = refused }),
		"empty": func(t *testing.T, service string) *cell {
			c, _, p := xdsCell(t, service)
			c.begin = func(t testing.TB) { p.serve(t, service, []string{}) }
			c.mute, c.trust = true, zerohop.Discovery{EmptyGrace: 2 * lasting}
			return c
		},
		// That there is no such service is not believed for a while.
		"unknown": func(t *testing.T, service string) *cell {
			c, _, p := xdsCell(t, service)
			c.begin = func(t testing.TB) { p.serve(t, "", nil) }
			c.mute = true
			return c
		},
		"stale": func(t *testing.T, service string) *cell {
			c, g, _ := xdsCell(t, service)
			c.begin, c.mute = g.door.cut, true // and what comes then is what was there before
			return c
		},
	}
}

// xdsCell returns a cell without a fault, and the gate before its control plane.
func xdsCell(t *testing.T, service string) (*cell, *rpcGate, *plane) {
	t.Helper()
	p := &plane{socket: filepath.Join(t.TempDir(), "plane")}
	p.start(t)
	t.Cleanup(func() { p.stop() })
	g := newRPCGate(t, "unix:"+p.socket)
	c := &cell{
		list:     func(t testing.TB, addrs []string) { p.serve(t, service, addrs) },
		requests: new(atomic.Int64),
	}
	r, err := xds.New(xds.Config{
		Server: g.door.addr.String(), Credentials: insecure.NewCredentials(), Node: xds.Node{ID: nodeID},
		DialOptions: []grpc.DialOption{grpc.WithStatsHandler(counter{c.requests})},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	c.resolver = r
	return c, g, p
}

const nodeID = "outage"

// plane is a control plane.
type plane struct {
	socket  string // nobody else can take it in between, as one could take a port
	cache   cache.SnapshotCache
	version int
	stop    func()
}

func (p *plane) start(t testing.TB) {
	t.Helper()
	l, err := net.Listen("unix", p.socket)
	if err != nil {
		t.Fatal(err)
	}
	p.version, p.cache = 0, cache.NewSnapshotCache(false, cache.IDHash{}, nil)
	ctx, cancel := context.WithCancel(context.Background())
	s := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, server.NewServer(ctx, p.cache, nil))
	done := make(chan struct{})
	go func() { // ended and awaited by stop
		defer close(done)
		_ = s.Serve(l)
	}()
	p.stop = func() { // may be called again
		cancel()
		s.Stop()
		<-done
	}
}

// serve makes the plane have exactly one service, or none if addrs is nil.
func (p *plane) serve(t testing.TB, service string, addrs []string) {
	t.Helper()
	resources := map[string][]types.Resource{resource.ClusterType: {}, resource.EndpointType: {}}
	if addrs != nil {
		ads := &corev3.ConfigSource{
			ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}, ResourceApiVersion: corev3.ApiVersion_V3,
		}
		resources[resource.ClusterType] = []types.Resource{&clusterv3.Cluster{
			Name: service, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
			EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads},
		}}
		locality := new(endpointv3.LocalityLbEndpoints)
		for _, addr := range addrs {
			host, text, _ := net.SplitHostPort(addr)
			port, _ := strconv.Atoi(text)
			locality.LbEndpoints = append(locality.LbEndpoints, &endpointv3.LbEndpoint{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: &corev3.Address{
					Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
						Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
					}},
				}}},
			})
		}
		resources[resource.EndpointType] = []types.Resource{&endpointv3.ClusterLoadAssignment{
			ClusterName: service, Endpoints: []*endpointv3.LocalityLbEndpoints{locality},
		}}
	}
	p.version++
	snapshot, err := cache.NewSnapshot(strconv.Itoa(p.version), resources)
	if err == nil {
		err = p.cache.SetSnapshot(context.Background(), nodeID, snapshot)
	}
	if err != nil {
		t.Fatal(err)
	}
}

package xds

import (
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	aggregatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/zerohop/zerohop/discovery"
)

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func dnsCluster(name string, kind clusterv3.Cluster_DiscoveryType, host string) *clusterv3.Cluster {
	c := staticCluster(name, host)
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: kind}
	return c
}

func aggregate(t testing.TB, name string, parts ...string) *clusterv3.Cluster {
	t.Helper()
	config, err := anypb.New(&aggregatev3.ClusterConfig{Clusters: parts})
	if err != nil {
		t.Fatal(err)
	}
	return &clusterv3.Cluster{Name: name, ClusterDiscoveryType: &clusterv3.Cluster_ClusterType{
		ClusterType: &clusterv3.Cluster_CustomClusterType{Name: "envoy.clusters.aggregate", TypedConfig: config},
	}}
}

func TestDecodeCluster(t *testing.T) {
	named := edsCluster("a")
	named.EdsClusterConfig.ServiceName = "endpoints-of-a"
	byFile := edsCluster("a")
	byFile.EdsClusterConfig.EdsConfig = &corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_PathConfigSource{
		PathConfigSource: &corev3.PathConfigSource{Path: "/eds"},
	}}
	redis := &clusterv3.Cluster{Name: "a", ClusterDiscoveryType: &clusterv3.Cluster_ClusterType{
		ClusterType: &clusterv3.Cluster_CustomClusterType{TypedConfig: &anypb.Any{TypeUrl: "redis"}},
	}}
	newDNS := dnsCluster("a", 0, "orders.example.com:80")
	newDNS.ClusterDiscoveryType = &clusterv3.Cluster_ClusterType{
		ClusterType: &clusterv3.Cluster_CustomClusterType{TypedConfig: &anypb.Any{TypeUrl: dnsType}},
	}
	for name, tt := range map[string]struct {
		cluster  *clusterv3.Cluster
		resource string
		addr     string
		parts    []string
		err      string
	}{
		"EDS":              {cluster: edsCluster("a"), resource: "a"},
		"EDS of a service": {cluster: named, resource: "endpoints-of-a"},
		"EDS from a file":  {cluster: byFile, err: "eds_cluster_config.eds_config: neither ads nor self"},
		"static":           {cluster: staticCluster("a", "192.0.2.1:80"), addr: "192.0.2.1:80"},
		"static by name":   {cluster: staticCluster("a", "orders.example.com:80"), err: `load_assignment: endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address: "orders.example.com" is not an IP address`},
		"strict DNS":       {cluster: dnsCluster("a", clusterv3.Cluster_STRICT_DNS, "orders.example.com:80"), addr: "orders.example.com:80"},
		"logical DNS":      {cluster: dnsCluster("a", clusterv3.Cluster_LOGICAL_DNS, "orders.example.com:80"), addr: "orders.example.com:80"},
		"DNS extension":    {cluster: newDNS, addr: "orders.example.com:80"},
		"no type":          {cluster: &clusterv3.Cluster{Name: "a"}, err: "load_assignment: missing"},
		"original dst":     {cluster: dnsCluster("a", clusterv3.Cluster_ORIGINAL_DST, "192.0.2.1:80"), err: "type: ORIGINAL_DST is not supported"},
		"extension":        {cluster: redis, err: `cluster_type: "redis" is not supported`},
		"aggregate":        {cluster: aggregate(t, "a", "b", "c"), parts: []string{"b", "c"}},
		"empty aggregate":  {cluster: aggregate(t, "a"), err: "cluster_type.typed_config.clusters: missing"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decodeCluster(marshal(t, tt.cluster))
			if tt.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			addr := ""
			if got.inline != nil {
				addr = got.inline.set[0].Addr
			}
			if got.resource != tt.resource || addr != tt.addr || !slices.Equal(got.parts, tt.parts) {
				t.Errorf("cluster %+v with address %q, want %q, %q, %q", got, addr, tt.resource, tt.addr, tt.parts)
			}
		})
	}
}

func TestDecodeAssignment(t *testing.T) {
	full := lbEndpoint(socketAddress("[2001:db8::1]:8080"))
	full.GetEndpoint().Hostname = "one.example.com"
	full.GetEndpoint().AdditionalAddresses = []*endpointv3.Endpoint_AdditionalAddress{{Address: socketAddress("192.0.2.1:8080")}}
	full.LoadBalancingWeight = wrapperspb.UInt32(3)
	fields := func(m map[string]any) *structpb.Struct {
		s, err := structpb.NewStruct(m)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	full.Metadata = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
		"envoy.lb": fields(map[string]any{"version": "2", "canary": true, "stage": 1.5, "list": []any{"x"}, "none": nil}),
		"istio":    fields(map[string]any{"workload": "orders;default;orders;v2;cluster"}),
		"other":    fields(map[string]any{"secret": "x"}),
	}}
	healths := map[corev3.HealthStatus]discovery.Health{
		corev3.HealthStatus_UNKNOWN:   discovery.Healthy,
		corev3.HealthStatus_HEALTHY:   discovery.Healthy,
		corev3.HealthStatus_DRAINING:  discovery.Draining,
		corev3.HealthStatus_DEGRADED:  discovery.Draining,
		corev3.HealthStatus_UNHEALTHY: discovery.Unhealthy,
		corev3.HealthStatus_TIMEOUT:   discovery.Unhealthy,
		99:                            discovery.Unhealthy,
	}
	for status, want := range healths {
		lb := lbEndpoint(socketAddress("192.0.2.1:80"))
		lb.HealthStatus = status
		got, err := decodeAssignment(marshal(t, &endpointv3.ClusterLoadAssignment{
			ClusterName: "a", Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{lb}}},
		}))
		if err != nil || got.set[0].Health != want {
			t.Errorf("%v: %+v, %v, want %v", status, got, err, want)
		}
	}
	got, err := decodeAssignment(marshal(t, &endpointv3.ClusterLoadAssignment{
		ClusterName: "a",
		Endpoints: []*endpointv3.LocalityLbEndpoints{{
			Locality:    &corev3.Locality{Region: "eu", Zone: "eu-1", SubZone: "rack-7"},
			LbEndpoints: []*endpointv3.LbEndpoint{full},
			Priority:    2,
		}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := []discovery.Endpoint{{
		Addr: "[2001:db8::1]:8080", Weight: 3, Zone: "eu-1", Priority: 2,
		Meta: map[string]string{
			"version": "2", "canary": "true", "stage": "1.5", "istio.workload": "orders;default;orders;v2;cluster",
			"xds-region": "eu", "xds-sub-zone": "rack-7", "xds-hostname": "one.example.com",
		},
	}}
	if diff := cmp.Diff(want, got.set); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}
	if got.levels != 3 {
		t.Errorf("%d levels, want 3", got.levels)
	}
}

func TestBadEndpointsAreNamed(t *testing.T) {
	socket := func(change func(*corev3.SocketAddress)) *corev3.Address {
		a := socketAddress("192.0.2.1:80")
		change(a.GetSocketAddress())
		return a
	}
	const where = "endpoints[0].lb_endpoints[0].endpoint.address"
	for want, addr := range map[string]*corev3.Address{
		where + ": missing":                             nil,
		where + ".pipe: Unix sockets are not supported": {Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: "/x"}}},
		where + ".envoy_internal_address: not supported": {
			Address: &corev3.Address_EnvoyInternalAddress{EnvoyInternalAddress: &corev3.EnvoyInternalAddress{}},
		},
		where + ".socket_address.protocol: UDP is not TCP": socket(func(s *corev3.SocketAddress) { s.Protocol = corev3.SocketAddress_UDP }),
		where + `.socket_address.named_port: "http": named ports are not supported`: socket(func(s *corev3.SocketAddress) {
			s.PortSpecifier = &corev3.SocketAddress_NamedPort{NamedPort: "http"}
		}),
		where + ".socket_address.port_value: 0 is not in 1..65535":                  socketAddress("192.0.2.1:0"),
		where + ".socket_address.port_value: 70000 is not in 1..65535":              socketAddress("192.0.2.1:70000"),
		where + `.socket_address.address: "orders" is not an IP address`:            socketAddress("orders:80"),
		where + `.socket_address.address: "" is not an IP address`:                  socketAddress(":80"),
		where + `.socket_address.address: "fe80::1%eth0" is not an IP address`:      socketAddress("[fe80::1%eth0]:80"),
		where + `.socket_address.address: "192.0.2.1/24" is not an IP address`:      socketAddress("192.0.2.1/24:80"),
		where + `.socket_address.address: "` + strings.Repeat("x", 256) + `"... is`: socketAddress(strings.Repeat("x", 100_000) + ":80"),
	} {
		load := &endpointv3.ClusterLoadAssignment{
			ClusterName: "a", Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{lbEndpoint(addr)}}},
		}
		if _, err := decodeAssignment(marshal(t, load)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}

	zero := loadOf("a", discovery.Endpoint{Addr: "192.0.2.1:80"})
	zero.Endpoints[0].LbEndpoints[0].LoadBalancingWeight = wrapperspb.UInt32(0)
	far := loadOf("a", discovery.Endpoint{Addr: "192.0.2.1:80"})
	far.Endpoints[0].Priority = 129
	led := &endpointv3.ClusterLoadAssignment{Endpoints: []*endpointv3.LocalityLbEndpoints{{
		LbConfig: &endpointv3.LocalityLbEndpoints_LedsClusterLocalityConfig{},
	}}}
	many := loadOf("a", manyEndpoints(maxEndpoints+1)...)
	bad := loadOf("a")
	for range 9 {
		bad.Endpoints = append(bad.Endpoints, &endpointv3.LocalityLbEndpoints{Priority: 200})
	}
	for want, load := range map[string]*endpointv3.ClusterLoadAssignment{
		"endpoints[0].lb_endpoints[0].load_balancing_weight: 0":   zero,
		"endpoints[0].priority: 129 is above 128":                 far,
		"endpoints[0]: only lb_endpoints are supported":           led,
		"endpoints: 10001 are more than 10000":                    many,
		"endpoints[4].priority: 200 is above 128; and 4 more":     bad,
		"endpoints: 20006 localities and endpoints are more than": loadOf("a", manyEndpoints(2*maxEndpoints+3)...),
	} {
		if _, err := decodeAssignment(marshal(t, load)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %.300v, want %q", err, want)
		}
	}
}

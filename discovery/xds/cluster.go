package xds

import (
	"errors"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	aggregatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	"google.golang.org/protobuf/encoding/protowire"
)

// Types of clusters that are extensions.
const (
	aggregateType = "type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig"
	dnsType       = "type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster"
)

// cluster is where the endpoints of a cluster come from: one of the three.
type cluster struct {
	// resource is the name of the endpoints resource.
	resource string
	// inline are the endpoints themselves.
	inline *assignment
	// parts are the clusters of an aggregate, in the order of failover.
	parts []string
}

// decodeCluster reads a Cluster in the encoding of the wire.
func decodeCluster(data []byte) (cluster, error) {
	const loadAssignment = 33
	var nested error
	err := fields(data, func(number protowire.Number, content []byte) {
		if number == loadAssignment && nested == nil {
			nested = countEndpoints(content)
		}
	})
	if err != nil {
		return cluster{}, errors.New(cut(err.Error()))
	}
	if nested != nil {
		return cluster{}, nested
	}
	c := new(clusterv3.Cluster)
	if err := unmarshal(data, c); err != nil {
		return cluster{}, errors.New(cut(err.Error()))
	}
	var wrong mistakes
	parsed := parseCluster(c, &wrong)
	return parsed, wrong.err()
}

func parseCluster(c *clusterv3.Cluster, wrong *mistakes) cluster {
	switch kind := c.GetClusterDiscoveryType().(type) {
	case *clusterv3.Cluster_ClusterType:
		return parseExtension(c, kind.ClusterType, wrong)
	case *clusterv3.Cluster_Type:
		switch kind.Type {
		case clusterv3.Cluster_STATIC:
			return inline(c, false, wrong)
		case clusterv3.Cluster_STRICT_DNS, clusterv3.Cluster_LOGICAL_DNS:
			return inline(c, true, wrong)
		case clusterv3.Cluster_EDS:
			return byEDS(c, wrong)
		}
		wrong.addf("type: %v is not supported", kind.Type)
		return cluster{}
	}
	return inline(c, false, wrong) // STATIC is the default
}

func byEDS(c *clusterv3.Cluster, wrong *mistakes) cluster {
	config := c.GetEdsClusterConfig()
	switch config.GetEdsConfig().GetConfigSourceSpecifier().(type) {
	case *corev3.ConfigSource_Ads, *corev3.ConfigSource_Self:
	default:
		wrong.addf("eds_cluster_config.eds_config: neither ads nor self")
	}
	name := config.GetServiceName()
	if name == "" {
		name = c.GetName()
	}
	return cluster{resource: name}
}

func inline(c *clusterv3.Cluster, names bool, wrong *mistakes) cluster {
	if c.GetLoadAssignment() == nil {
		wrong.addf("load_assignment: missing")
		return cluster{}
	}
	var own mistakes
	a := parseAssignment(c.GetLoadAssignment(), names, &own)
	if err := own.err(); err != nil {
		wrong.addf("load_assignment: %v", err)
	}
	return cluster{inline: &a}
}

func parseExtension(c *clusterv3.Cluster, kind *clusterv3.Cluster_CustomClusterType, wrong *mistakes) cluster {
	switch url := kind.GetTypedConfig().GetTypeUrl(); url {
	case dnsType:
		return inline(c, true, wrong)
	case aggregateType:
		config := new(aggregatev3.ClusterConfig)
		if err := unmarshal(kind.GetTypedConfig().GetValue(), config); err != nil {
			wrong.addf("cluster_type.typed_config: %s", cut(err.Error()))
			return cluster{}
		}
		if len(config.GetClusters()) == 0 || slices.Contains(config.GetClusters(), "") {
			wrong.addf("cluster_type.typed_config.clusters: missing, or one without a name")
		}
		return cluster{parts: config.GetClusters()}
	default:
		wrong.addf("cluster_type: %s is not supported", cut(url))
		return cluster{}
	}
}

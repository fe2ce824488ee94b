package xds

import (
	"errors"
	"fmt"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/structpb"
)

// defaultDeleteGrace outlasts the restart of a control plane that answers before it has read what it serves.
const defaultDeleteGrace = 5 * time.Minute

// Config says which control plane to ask and as whom.
type Config struct {
	// Server is the control plane, in the syntax of gRPC targets: "istiod.istio-system.svc:15010" or
	// "unix:///etc/istio/proxy/XDS". Required.
	Server string
	// Credentials secure the connection. nil means TLS, with the certificates that the system trusts.
	Credentials credentials.TransportCredentials
	// DialOptions are further options of the connection, for example credentials per call. They come after those of
	// the resolver.
	DialOptions []grpc.DialOption
	// Node is who asks.
	Node Node
	// Cluster returns the name of the cluster that stands for a service, for example
	// "outbound|80||orders.default.svc.cluster.local" with Istio. It must give the same name each time, and be
	// safe for concurrent use. nil means the name of the service itself.
	Cluster func(service string) string
	// DeleteGrace is how long the endpoints of a service stay in use when the control plane no longer has its
	// cluster or its endpoints resource, which a faulty or fresh one says of all services. 0 means 5 min, negative
	// means for ever (as gRPC does with "ignore_resource_deletion"). That a service has no endpoints is not
	// a deletion.
	DeleteGrace time.Duration
	// OnError is told what does not end a watch: resources that were refused, and deletions that are not believed
	// yet. It may be called concurrently and must not block. nil means nobody; the control plane is told anyway
	// what was refused.
	OnError func(error)
}

// Node is what a client says of itself to the control plane.
type Node struct {
	// ID is how the control plane knows the client. Required.
	ID string
	// Cluster is the group that the client belongs to. May be empty.
	Cluster string
	// Region, Zone and SubZone are where the client runs. They may be empty.
	Region, Zone, SubZone string
	// Metadata holds what else the control plane wants to know: Istio expects {"GENERATOR": "grpc"} of clients
	// that ask for clusters by name. Values are those of JSON.
	Metadata map[string]any
}

// proto returns the node in the form of the protocol.
func (n Node) proto() (*corev3.Node, error) {
	metadata, err := structpb.NewStruct(n.Metadata)
	if err != nil {
		return nil, fmt.Errorf("xds: Config.Node.Metadata: %w", err)
	}
	node := &corev3.Node{
		Id:            n.ID,
		Cluster:       n.Cluster,
		UserAgentName: "zerohop",
		ClientFeatures: []string{
			"envoy.lb.does_not_support_overprovisioning",
			"xds.config.resource-in-sotw",
		},
	}
	if len(n.Metadata) > 0 {
		node.Metadata = metadata
	}
	if n.Region != "" || n.Zone != "" || n.SubZone != "" {
		node.Locality = &corev3.Locality{Region: n.Region, Zone: n.Zone, SubZone: n.SubZone}
	}
	return node, nil
}

// check reports all that is wrong with the configuration.
func (c Config) check() error {
	var errs []error
	if c.Server == "" {
		errs = append(errs, errors.New("xds: Config.Server is missing"))
	}
	if c.Node.ID == "" {
		errs = append(errs, errors.New("xds: Config.Node.ID is missing"))
	}
	_, err := c.Node.proto()
	return errors.Join(append(errs, err)...)
}

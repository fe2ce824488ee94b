// Package xds finds services through a control plane that speaks xDS, such as Istio or one built on go-control-plane, for
// clients of any protocol: a plain http.Client is driven by the same plane as Envoy and gRPC.
//
//	config, err := xds.Bootstrap() // what gRPC clients read: GRPC_XDS_BOOTSTRAP
//	...
//	config.Cluster = func(service string) string { return "outbound|80||" + service + ".default.svc.cluster.local" }
//	resolver, err := xds.New(config)
//	...
//	defer resolver.Close()
//	mesh, err := zerohop.New(zerohop.Config{Resolver: resolver})
//
// The resolver asks for clusters (CDS) by name and for their endpoints (EDS), over one aggregated stream in the state-of-the-world
// form of version 3 of the protocol (https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol). Clusters may be of the
// types EDS (by ADS), STATIC, STRICT_DNS, LOGICAL_DNS and aggregate.
//
// What becomes of an endpoint:
//
//	Addr      address.socket_address: an IP address, or a host name in clusters of the DNS types, and port_value
//	Weight    load_balancing_weight of the locality, shared out by that of its endpoints; the latter alone if none is given
//	Zone      locality.zone
//	Priority  priority; in an aggregate those of each cluster follow those of the one before
//	Health    UNKNOWN, HEALTHY: Healthy; DRAINING, DEGRADED: Draining; UNHEALTHY, TIMEOUT: Unhealthy
//	Meta      strings, numbers and bools of metadata "envoy.lb" under their names, those of "istio" as "istio.NAME";
//	          "xds-region", "xds-sub-zone" and "xds-hostname"
//
// A resource with something else than that (a Unix socket, a named port, a port out of range, a cluster of another type) is
// refused as a whole, the control plane is told which field is wrong, and its last good version stays in use; the other resources
// of the answer apply. Of additional_addresses only the first address counts. Drop policies, overprovisioning, circuit breakers,
// outlier detection, health checks and TLS settings of clusters are ignored: those of the mesh apply.
//
// The control plane gets at most one request a second for each service and type, three in a row, and at most ten a second in all.
//
// Do not use it for routes, listeners, load reports or federation: only clusters and endpoints are read. A gRPC client that is
// to follow all of xDS uses the xDS support of gRPC itself.
package xds

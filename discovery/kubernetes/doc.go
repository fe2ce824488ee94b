// Package kubernetes finds services of Kubernetes by their EndpointSlices: the pods themselves instead of the
// virtual address of the Service, with their readiness and zones. A change arrives within milliseconds.
//
//	client, err := kubernetes.NewClient(kubernetes.ClientConfig{}) // in a pod: its service account
//	...
//	mesh, err := zerohop.New(zerohop.Config{Resolver: kubernetes.Resolver{Client: client, Port: "http"}})
//
// # Names
//
// A service is "orders", or "orders.shop" for the one in namespace shop, each with ":port" or without. Names with dots or
// ports are services of URLs only if the Spec names them; [Resolver.Services] gives them a short name.
//
// # What becomes of an EndpointSlice
//
//	first address, port   Addr; the port is that of the pod, so with numbers name targetPort and not the one of the Service
//	zone                  Zone
//	conditions            ready (nil counts as ready): Healthy. terminating and serving: Terminating, which gets new
//	                      calls only when nothing else serves (KEP-1672). Not ready: left out, or Unhealthy with
//	                      IncludeNotReady
//	labels of the slice   Meta, except those of kubernetes.io: Kubernetes copies them from the Service
//	targetRef (pod)       Meta["kubernetes-pod"]
//	nodeName              Meta["kubernetes-node"]
//	hints.forZones        Meta["kubernetes-for-zones"], joined by commas. They are not obeyed: they know neither load nor
//	                      failures, which the zone rules of package loadbalance do
//	(none)                Weight is 1, Priority is 0
//
// All slices of a service count as one set. A pod that has both an IPv4 and an IPv6 address is one endpoint. Ports that are not
// TCP are left out.
//
// # Permissions
//
// In each namespace that is read, a Role with
//
//	rules:
//	- apiGroups: ["discovery.k8s.io"]
//	  resources: ["endpointslices"]
//	  verbs: ["get", "list", "watch"]
//
// Resolver.Zone also needs a ClusterRole that may "get" "nodes". Without it set the zone of the process in
// another way, for example the environment variable ZEROHOP_ZONE from the label topology.kubernetes.io/zone of the pod,
// which Kubernetes 1.35 and later copy from the node.
//
// # What it costs the API server
//
// Each watch of a service is one request held open for its slices alone, so that a namespace with thousands of slices is never
// read for one service, and a list of them now and then. All watches of a client share few HTTP/2 connections, and each
// takes one goroutine beside that of its caller. For that it is not built on the informers of client-go, which
// take seven each, keep their failures to themselves and retry for up to 30 s; credentials, TLS and types are
// those of client-go.
//
// # When not to use it
//
// Do not use it where another mesh already redirects the connections of the pod: a sidecar balances what zerohop has
// already balanced. Do not use it for Services without selectors and slices, such as ExternalName: use package dns.
package kubernetes

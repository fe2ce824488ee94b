// Package consul finds services in Consul and registers them there. The resolver watches with blocking
// queries, so a change arrives within milliseconds; the registrar keeps an instance registered for ever.
//
//	client, err := consul.NewClient(api.Config{Address: "127.0.0.1:8500"})
//	...
//	mesh, err := zerohop.New(zerohop.Config{Resolver: consul.Resolver{Client: client}})
//
// Address, TLS, token, namespace and partition are those of the [api.Client]. A client made by api.NewClient
// works too; [NewClient] says what it lacks.
//
// What becomes of a Consul instance: its address (that of the node if the service has none) and port are the
// identity, Weights.Passing or Weights.Warning the weight, Meta["zone"] of the service, else its locality, else
// Meta["zone"] or the locality of the node the zone, Meta["zerohop-priority"] the failover level. The rest
// of the service's metadata is the Meta of the endpoint, with the tags joined by commas as "consul-tags".
// A datacenter is not a zone: name another one in Resolver.Datacenter to watch it. Instances without a port
// (Unix sockets) are left out.
//
// Do not use it for Consul service mesh sidecars, which have their own addresses and certificates.
package consul

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
// What becomes of an instance, the first that is set counts:
//
//	Endpoint  from
//	Addr      address of the service, of its node; port of the service
//	Weight    Weights.Warning of one with warnings; Weights.Passing, unless it is the default of 1; Meta["weight"]; 1
//	Zone      Meta["zone"]; locality of the service; Meta["zone"] of the node; locality of the node
//	Priority  Meta["zerohop-priority"]; 0
//	Health    Draining in maintenance, Unhealthy with a critical check; see Resolver.IncludeFailing
//	Meta      the rest of Meta; tags of the form "key=value"; the other tags, joined by commas, as "consul-tags"
//
// A tag "key=value" counts as Meta where that has no such key. So what Spring Cloud Consul registers is understood,
// in metadata (from 3.0 on) or in tags (before): zone and weight as above, "secure", "group" and "version" as Meta. A
// client chooses https by its URL, not by "secure": use Resolver.Filter where a service has both kinds. The service that Spring
// registers for a management port has a name of its own, "orders-management". Nomad tells canaries by their tags: leave
// them out with Resolver.Filter `"canary" not in Service.Tags`. The other way round, [Registrar] writes zone and weight
// where Spring reads them; set Meta["secure"] to "true" for callers in Spring if the server speaks TLS.
//
// A datacenter is not a zone: name another one in Resolver.Datacenter to watch it. Instances without a port
// (Unix sockets) are left out.
//
// Do not use it for Consul service mesh sidecars, which have their own addresses and certificates.
package consul

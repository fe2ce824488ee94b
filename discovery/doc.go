// Package discovery finds the endpoints of services. A [Resolver] watches one source (a registry, DNS, a file);
// [Run] supervises any resolver: it restarts broken watches, checks every answer and keeps the last good set.
//
//	err := discovery.Run(ctx, resolver, "orders", discovery.RunOptions{}, func(set []discovery.Endpoint) {
//		balancer.Update(set)
//	})
//
// Resolvers live in the packages below this one; [Static] is the one that needs no source, and [Merge], [Failover], [Fallback],
// [Filter] and [Subset] work over others. Package discoverytest
// checks that a resolver keeps its contract. This package neither picks an endpoint nor checks that it is alive:
// that is the work of package loadbalance.
//
// What a remote source names is checked: an [AddressPolicy] keeps it from making the process call itself, its neighbours on the
// machine or the metadata service of a cloud.
package discovery

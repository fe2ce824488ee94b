// Package serviceconfig imports the service config of gRPC, the JSON that name resolvers give to its clients: timeouts, retries and
// hedging by method, retry throttling, load balancing and health checks.
//
//	spec, report, err := serviceconfig.Import(data, importing.Options{Target: "orders"})
//
// A service config does not say what service it is for, so importing.Options.Target has to. Its methods become rules, which are
// named by service and method, each with a policy; the most specific name counts, as in gRPC.
//
// The methods of a retry policy or a hedging policy count as idempotent in the Spec: gRPC repeats what the operator says may be
// repeated. See gRFC A6 for what the fields mean in gRPC, and https://github.com/grpc/grpc/blob/master/doc/service_config.md.
//
// It is of no use to clients that keep gRPC's own balancing: grpcmesh takes no service config.
package serviceconfig

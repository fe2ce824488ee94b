// Package telemetry reports what a mesh does as OpenTelemetry metrics and spans. It uses the API of OpenTelemetry
// alone; which SDK and exporter receive the data is the program's choice.
//
//	hooks, err := telemetry.New(telemetry.Config{}) // the global providers
//	if err != nil {
//		return err
//	}
//	mesh, err := zerohop.New(zerohop.Config{Resolver: r, Hooks: hooks})
//
// Each call is an INTERNAL span and each attempt a CLIENT span below it, whose context is what the endpoint gets.
// Names and attributes are those of the semantic conventions for HTTP and RPC clients where there are some, and
// begin with "zerohop." where there are none. As the conventions have it, an attempt that was given up counts as an
// error of type "canceled", also when a backup was faster; zerohop.outcome is "neutral" then.
//
// Instruments:
//
//	http.client.request.duration  histogram, s        attempts over HTTP, to the end of the body
//	rpc.client.call.duration      histogram, s        attempts over gRPC
//	zerohop.call.duration         histogram, s        calls, with all their attempts and pauses
//	zerohop.attempts              counter             attempts that had an endpoint: first ones, retries, backups
//	zerohop.discovery.endpoints   up-down, observable endpoints in use of a service
//	zerohop.discovery.held        up-down, observable those of them that the source does not list any more
//	zerohop.discovery.age         gauge, s            how long the source has not been heard, 0 while it is: for alerts
//	zerohop.discovery.events      counter             what discovery.Event tells: sets published, removals held, and so on
//	zerohop.discovery.failures    counter             watches that broke and answers that were rejected
//	zerohop.health.changes        counter             endpoints that began to fail their checks or pass them again
//	zerohop.spec.updates          counter             updates of the spec that changed something, "applied", or were "refused"
//	zerohop.spec.generation       gauge, observable   number of the spec in force, once there was an update
//
// Nothing that a peer or a caller can invent makes the number of series grow without bound: paths and headers are
// no attributes, unknown methods are "_OTHER", and so are names beyond the first 500 services and hosts and 1,000
// gRPC methods. No instrument has more than 2,000 sets of attributes; what exceeds them is counted under
// otel.metric.overflow, as SDKs do.
//
// Do not also wrap the transports in other OpenTelemetry instrumentation of clients: attempts would be counted twice.
package telemetry

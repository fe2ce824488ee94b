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
// error of type "canceled", also when a backup was faster; zerohop.outcome is "neutral" then. The instruments, with their
// attributes and values, the events of spans and the records of logs are listed in docs/telemetry.md. The ones to begin with:
//
//	http.client.request.duration  histogram, s        attempts over HTTP, to the end of the body
//	rpc.client.call.duration      histogram, s        attempts over gRPC
//	zerohop.call.duration         histogram, s        calls, with all their attempts and pauses
//	zerohop.attempts              counter             attempts that had an endpoint: first ones, retries, backups, copies
//	zerohop.refusals              counter             what limits, throttling and breakers refused
//	zerohop.endpoints             up-down, observable endpoints by what they are fit for: available, ejected, failing, and so on
//	zerohop.ejections             counter             endpoints that were ejected, by cause, or spared
//	zerohop.budget.level          gauge, observable   level of the retry budget
//	zerohop.discovery.age         gauge, observable   how long the source has not been heard, 0 while it is: for alerts
//
// Durations are recorded with the context of their span, so that SDKs can link an example of each to its trace.
//
// Nothing that a peer or a caller can invent makes the number of series grow without bound: paths, headers, lanes and endpoints
// are no attributes, unknown methods are "_OTHER", and so are names beyond the first 500 services and hosts, 500 routes and 1,000
// gRPC methods. No instrument has more than 2,000 sets of attributes; what exceeds them is counted under
// otel.metric.overflow, as SDKs do.
//
// Where other OpenTelemetry instrumentation wraps the same clients, Config.Instrumented keeps attempts from being counted twice.
// Log tells a slog.Logger of what changes around calls. NewAdmission and Extract are for servers: what they refuse, and the trace that
// requests carry.
package telemetry

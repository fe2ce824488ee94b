// Package gatewayapi imports the HTTPRoutes and GRPCRoutes of the Kubernetes Gateway API (gateway.networking.k8s.io/v1): what a
// gateway or a mesh does between processes, zerohop then does within the calling one.
//
//	docs, err := os.ReadFile("routes.yaml")
//	...
//	spec, report, err := gatewayapi.Import(docs, importing.Options{Namespace: "shop"})
//	...
//	fmt.Fprint(os.Stderr, report) // what could not be carried over
//	mesh, err := zerohop.New(zerohop.Config{Spec: spec, Resolver: resolver})
//
// # Which calls a route is for
//
// A parentRef of kind Service (GAMMA) makes the route one for the calls to that service. A parentRef of kind Gateway makes it one
// for the calls to the hostnames of the route, or, without hostnames, to the host that importing.Options.Gateways gives.
//
// # Precedence
//
// It is that of the specification: the more specific host, an exact path, the longer prefix, a method, more headers, more query
// parameters; then the older route, the first in the alphabet by "namespace/name", and the first rule of a route. Rules keep
// this order in the Spec, and are named "namespace/name/rule", by the name of the rule or its number. Calls to a host of which no
// rule is for them are answered with 404.
//
// # When not to use it
//
// What a gateway is to do for browsers, such as redirects and CORS, is no business of a client. ReferenceGrants say what routes may
// refer to; a process that may call a service needs none, so they are not looked at.
package gatewayapi

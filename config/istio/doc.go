// Package istio imports VirtualServices and DestinationRules of Istio (networking.istio.io): what a sidecar does beside a process,
// zerohop then does within it.
//
//	spec, report, err := istio.Import(docs, importing.Options{Namespace: "shop"})
//
// # What becomes of it
//
// The HTTP routes of a VirtualService become rules, named "namespace/name/route" by the name of the route or its number. Istio takes
// the first route that fits, whatever its conditions; package routing takes the most specific one. So where a later route would
// come before an earlier one, the earlier one gets further matches for the calls that both fit, and the outcome is the same. Calls
// that no route is for are answered with 404, as Istio does.
//
// The subsets of a DestinationRule become Backend.Select, and its traffic policy that of the service. A subset is known by labels of
// pods, which the endpoints must have as metadata.
//
// A VirtualService without gateways, or with gateway "mesh", is for the calls to its hosts. One that is bound to other gateways is for
// the calls to its hosts outside the cluster, too, and where importing.Options.Gateways has the gateway for those to services of the
// cluster, and to what it says if the host is "*". A match that names only gateways that are not there is left out.
//
// # When not to use it
//
// TCP and TLS routes, and what a sidecar does for the process that it serves (Sidecar, PeerAuthentication, AuthorizationPolicy), are
// no business of a client.
package istio

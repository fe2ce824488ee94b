// Package httpmesh puts HTTP clients on a mesh: an http.RoundTripper for calls to services by name.
//
//	client := &http.Client{Transport: httpmesh.NewTransport(mesh, nil)}
//	resp, err := client.Get("http://orders/v1/orders/42") // "orders" is a service, not a host
//
// Requests to hosts that are not services pass to the base transport untouched, so that a Transport can replace
// http.DefaultTransport.
//
// Calls of Connect, gRPC and gRPC-Web clients, which take the same http.Client, are judged by the codes of these protocols
// instead of the HTTP status: UNAVAILABLE is worth repeating, INTERNAL is a failure, NOT_FOUND an answer. They are sent by
// POST, save Connect's queries by GET, so repeating them takes an Idempotency-Key, Policy.Idempotent or zerohop.WithCall. A
// stream is never repeated once its answer has begun, nor one that its caller still sends; how it ends counts for its
// endpoint.
//
// NewHandler is the server half, which servers can do without: it keeps the deadlines of callers, refuses work that
// cannot be done in time, keeps outages from being multiplied by chains of services, reports load, and drains. With a
// zerohop.Admission it also refuses what is too much for it, least critical first.
//
//	handler := httpmesh.NewHandler(mux, httpmesh.HandlerOptions{})
//	server := &http.Server{Handler: handler}
package httpmesh

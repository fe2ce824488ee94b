// Package interop holds tests: clients that know nothing of zerohop, generated for Connect, gRPC, gRPC-Web and OpenAPI,
// work over httpmesh.Transport as they do over http.DefaultTransport, and survive what it survives. Connections of gRPC
// on a mesh call servers of Connect, and serve grpc-gateway. It is a module of its own, so that their dependencies are
// not those of zerohop.
package interop

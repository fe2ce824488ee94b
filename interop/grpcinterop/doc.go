// Package grpcinterop holds tests: gRPC's own interop test cases pass on a mesh, with nodes that come and go, with servers
// behind net/http and of another implementation, and with servers that break HTTP/2 in the ways that gRPC publishes.
// The interceptors, credentials, codecs, limits, logs and stats handlers that programs have besides ours work as ever.
package grpcinterop

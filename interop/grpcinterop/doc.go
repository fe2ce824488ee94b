// Package grpcinterop holds tests: gRPC's own interop test cases pass on a mesh, with nodes that come and go, with servers
// that break HTTP/2 in the ways that gRPC publishes, and with the interceptors, credentials, codecs and stats handlers
// that programs have besides ours.
package grpcinterop

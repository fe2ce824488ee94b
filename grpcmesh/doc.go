// Package grpcmesh puts gRPC clients on a mesh. The connection is a plain *grpc.ClientConn, so every generated stub
// works:
//
//	conn, err := grpc.NewClient(grpcmesh.Target("orders"),
//		append(grpcmesh.DialOptions(mesh), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
//
// gRPC keeps the connections to the endpoints; the mesh knows the endpoints, picks one for each attempt, and repeats
// unary calls that failed or hang and may be repeated. TLS verifies the name of the service.
//
// It works by halves, too: Resolver brings the endpoints and the balancing of the mesh without its retries, and
// UnaryInterceptor and StreamInterceptor its policies for calls on a connection that finds its endpoints without the mesh.
//
// A unary call may be repeated after it was sent only if its method says idempotency_level = IDEMPOTENT or
// NO_SIDE_EFFECTS in its .proto file, or the policy or the caller declares it idempotent.
package grpcmesh

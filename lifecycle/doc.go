// Package lifecycle runs the servers of a process from the moment they listen to the moment the last call has been answered:
// it registers them, and when the process is told to end, it lets them go in the order that fails no call.
//
//	l, err := net.Listen("tcp", ":8080")
//	...
//	h := httpmesh.NewHandler(mux, httpmesh.HandlerOptions{})
//	err = lifecycle.Run(ctx, lifecycle.Config{
//		Registrar: consul.Registrar{Client: client},
//		Servers: []lifecycle.Server{
//			h.Serving(&http.Server{Handler: h}, l, discovery.Instance{Service: "orders"}),
//		},
//	})
//
// Package grpcmesh makes a Server of a grpc.Server in the same way. Those of other protocols are a few functions; see
// [Server]. A process that has its own way to start and stop uses Drain of httpmesh.Handler and grpcmesh.Server and a
// discovery.Registrar instead.
package lifecycle

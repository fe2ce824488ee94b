// Package zerohop is a service mesh without the mesh: service discovery, client-side load balancing, retries,
// backups, circuit breaking and routing inside the process that makes the calls, with no extra hop.
//
// A Mesh is made once, and clients that exist already are put on it:
//
//	mesh, err := zerohop.New(zerohop.Config{Resolver: consul.Resolver{Client: client}})
//	if err != nil {
//		return err
//	}
//	defer mesh.Close()
//	client := &http.Client{Transport: httpmesh.NewTransport(mesh, nil)}
//	resp, err := client.Get("http://orders/v1/orders/42") // "orders" is a service, not a host
//
// Package httpmesh carries HTTP, package grpcmesh gRPC, and Do anything else. What a call may do is a Policy,
// plain data with good defaults; see Spec.
//
// It is not for programs that are not written in Go, and it does not encrypt: use TLS of the transport.
package zerohop

package httpmesh_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/zerohop/zerohop/httpmesh"
)

// A server that is stopped without failing a request.
func ExampleNewHandler() {
	service := http.NewServeMux()
	service.HandleFunc("GET /orders/{id}", func(w http.ResponseWriter, r *http.Request) {
		_, limited := r.Context().Deadline()
		fmt.Fprintln(w, "order", r.PathValue("id"), "with a deadline:", limited)
	})
	handler := httpmesh.NewHandler(service, httpmesh.HandlerOptions{
		Load:  func() httpmesh.LoadReport { return httpmesh.LoadReport{CPU: 0.42} },
		Quiet: 10 * time.Millisecond, // 1 s, the default, suits real callers better
	})
	root := http.NewServeMux()
	root.Handle("/", handler)
	root.HandleFunc("GET /ready", handler.Ready) // beside the service: probes are not to be waited for
	server := &http.Server{Handler: root}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	stopped := make(chan error)
	go func() { stopped <- server.Serve(listener) }()

	get := func(path, timeout string) {
		req, _ := http.NewRequest("GET", "http://"+listener.Addr().String()+path, nil)
		if timeout != "" { // a Transport sets it
			req.Header.Set(httpmesh.TimeoutHeader, timeout)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		fmt.Printf("%d %s: %s", resp.StatusCode, resp.Header.Get(httpmesh.LoadHeader), body)
	}
	get("/ready", "")
	get("/orders/42", "250")
	get("/orders/42", "0")

	// At the end: out of the registry (Close of the discovery.Registration), then
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	fmt.Println("drained:", handler.Drain(ctx))
	get("/ready", "")
	get("/orders/43", "") // late, and served
	fmt.Println("shut down:", server.Shutdown(ctx), <-stopped)

	// Output:
	// 200 : ready
	// 200 TEXT cpu_utilization=0.42: order 42 with a deadline: true
	// 504 TEXT cpu_utilization=0.42: no time left to serve the request
	// drained: <nil>
	// 503 : draining
	// 200 TEXT cpu_utilization=0.42: order 43 with a deadline: false
	// shut down: <nil> http: Server closed
}

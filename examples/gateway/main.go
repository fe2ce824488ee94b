// Command gateway is a reverse proxy to services whose instances may fail. The first part of a path names the service.
//
//	go run ./examples/gateway -listen 127.0.0.1:8080 orders=127.0.0.1:9001,127.0.0.1:9002 users=127.0.0.1:9003
//	curl http://127.0.0.1:8080/orders/v1/42
//
// Its output is where it listens, and calls that took more than one attempt. Here an instance of orders was down:
//
//	listening on http://127.0.0.1:8080
//	GET of orders: status 200 after 2 attempts
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address to listen on")
	flag.Parse()
	services := discovery.Static{} // package discovery/consul or the like, in earnest
	for _, arg := range flag.Args() {
		name, addrs, _ := strings.Cut(arg, "=")
		for addr := range strings.SplitSeq(addrs, ",") {
			services[name] = append(services[name], discovery.Endpoint{Addr: addr})
		}
	}
	told := func(_ context.Context, call zerohop.CallInfo, r zerohop.CallResult) {
		if r.Attempts > 1 {
			fmt.Printf("%s of %s: status %d after %d attempts\n", call.Method, call.Service, r.Status, r.Attempts)
		}
	}
	mesh, err := zerohop.New(zerohop.Config{Resolver: services, Hooks: zerohop.Hooks{CallDone: told}})
	if err != nil {
		log.Fatal(err)
	}
	transport, mux := httpmesh.NewTransport(mesh, nil), http.NewServeMux()
	for name := range services { // and no other host: callers must not choose where a gateway connects to
		mux.Handle("/"+name+"/", http.StripPrefix("/"+name, &httputil.ReverseProxy{
			Transport: transport,
			Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: name}); r.SetXForwarded() },
		}))
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on http://" + l.Addr().String())
	log.Fatal(http.Serve(l, httpmesh.NewHandler(mux, httpmesh.HandlerOptions{})))
}

// Command http shows an http.Client that calls a service by its name. It starts two instances of the service itself,
// and halfway stops the one that answered last:
//
//	go run ./examples/http
//
// It prints who answered. Which of the two answers the first calls differs from run to run:
//
//	hello from a
//	hello from a
//	hello from a
//	a stops
//	hello from b
//	hello from b
//	hello from b
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
)

func main() {
	instances := map[string]*httptest.Server{"a": serve("a"), "b": serve("b")}

	// In earnest the instances are found by package discovery/consul or the like.
	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{
		"greeter": {{Addr: instances["a"].Listener.Addr().String()}, {Addr: instances["b"].Listener.Addr().String()}},
	}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()
	client := &http.Client{Transport: httpmesh.NewTransport(mesh, nil)}

	name := call(client)
	fmt.Println(name, "stops")
	instances[name].Close()
	call(client)
}

// call greets three times and returns who answered last.
func call(client *http.Client) (name string) {
	for range 3 {
		resp, err := client.Get("http://greeter/") // the service, not a host
		if err != nil {
			log.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			log.Fatal(err)
		}
		name = string(body)
		fmt.Println("hello from", name)
	}
	return name
}

// serve starts an instance of the service.
func serve(name string) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, name)
	}))
}

package httpmesh_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/healthcheck"
	"github.com/zerohop/zerohop/httpmesh"
)

// Endpoints are asked for /health. One that is not well gets no requests, although it would answer them.
func ExampleNewHealthChecker() {
	instance := func(name string, health int) *httptest.Server {
		mux := http.NewServeMux()
		mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(health) })
		mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello from ", name) })
		return httptest.NewServer(mux)
	}
	a, b := instance("a", http.StatusOK), instance("b", http.StatusServiceUnavailable)
	defer a.Close()
	defer b.Close()

	changes := make(chan zerohop.HealthEvent)
	mesh, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"greeter": {{Addr: a.Listener.Addr().String()}, {Addr: b.Listener.Addr().String()}}},
		Checkers: map[string]healthcheck.Checker{"http": httpmesh.NewHealthChecker(nil)},
		Hooks:    zerohop.Hooks{Health: func(_ string, ev zerohop.HealthEvent) { changes <- ev }},
		Spec: zerohop.Spec{Services: map[string]zerohop.Policy{"greeter": {
			HealthCheck: zerohop.HealthCheck{Mode: zerohop.On, Protocol: "http", Path: "/health", Spread: 100 * time.Millisecond},
		}}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()
	fmt.Println((<-changes).Err)

	client := &http.Client{Transport: httpmesh.NewTransport(mesh, nil)}
	defer client.CloseIdleConnections()
	for range 3 {
		resp, err := client.Get("http://greeter/")
		if err != nil {
			log.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		fmt.Println(string(body), err)
	}
	// Output:
	// httpmesh: health check answered 503 Service Unavailable
	// hello from a <nil>
	// hello from a <nil>
	// hello from a <nil>
}

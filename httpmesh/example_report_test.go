package httpmesh_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"sync/atomic"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
)

// A report tells what a call went through, be its answer good or bad. Here one instance is overloaded, but not the other.
func ExampleTransport_report() {
	var calls atomic.Int64
	instance := func() *httptest.Server {
		return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if calls.Add(1) == 1 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}))
	}
	a, b := instance(), instance()
	defer a.Close()
	defer b.Close()
	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{
		"orders": {{Addr: a.Listener.Addr().String()}, {Addr: b.Listener.Addr().String()}},
	}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()
	client := &http.Client{Transport: httpmesh.NewTransport(mesh, nil)}
	defer client.CloseIdleConnections()

	ctx, report := zerohop.WithReport(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://orders/v1/orders/42", nil)
	if err != nil {
		log.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	for _, call := range report.Calls() {
		fmt.Printf("%s: %s\n", call.Service, call.Detail)
		for _, try := range call.Attempts { // Addr, Start and Duration say where, when and how long
			fmt.Printf("%s: %s, status %d\n", try.Cause, try.Outcome, try.Status)
		}
		fmt.Println("on another instance:", call.Attempts[0].Addr != call.Attempts[1].Addr)
	}
	// Output:
	// orders: answered
	// first: failure, status 503
	// retry: success, status 200
	// on another instance: true
}

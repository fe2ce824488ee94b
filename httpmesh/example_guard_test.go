package httpmesh_test

import (
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"sync/atomic"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/httpmesh"
)

// Requests to plain hosts are repeated if they may be, with pauses and a budget.
func ExampleNewGuard() {
	var attempts atomic.Int64
	flaky := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if attempts.Add(1) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer flaky.Close()

	guard, err := httpmesh.NewGuard(http.DefaultTransport, zerohop.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer guard.Close()
	client := &http.Client{Transport: guard}
	defer client.CloseIdleConnections()

	resp, err := client.Get(flaky.URL)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status, "after", attempts.Load(), "attempts")
	// Output: 200 OK after 3 attempts
}

// A guard can be a circuit breaker and nothing else: after three failures the host gets no requests for a while.
func ExampleNewGuard_breaker() {
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
	}))
	defer broken.Close()

	guard, err := httpmesh.NewGuard(http.DefaultTransport, zerohop.Config{Spec: zerohop.Spec{Defaults: zerohop.Policy{
		Retry:   zerohop.Retry{Mode: zerohop.Off},
		Breaker: zerohop.Breaker{Mode: zerohop.On, Consecutive: 3},
	}}})
	if err != nil {
		log.Fatal(err)
	}
	defer guard.Close()
	client := &http.Client{Transport: guard}
	defer client.CloseIdleConnections()

	for range 4 {
		resp, err := client.Get(broken.URL)
		var rejected *zerohop.Error
		switch {
		case errors.As(err, &rejected) && rejected.Reason == zerohop.Unavailable:
			fmt.Println("rejected, sent:", rejected.Sent)
		case err != nil:
			log.Fatal(err)
		default:
			resp.Body.Close()
			fmt.Println(resp.Status)
		}
	}
	// Output:
	// 500 Internal Server Error
	// 500 Internal Server Error
	// 500 Internal Server Error
	// rejected, sent: false
}

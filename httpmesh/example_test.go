package httpmesh_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
)

// A client that exists already keeps all it can do, and learns to call services by name. Other hosts are reached as
// before.
func ExampleNewTransport() {
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello, ", r.URL.Path) })
	instance, host := httptest.NewServer(hello), httptest.NewServer(hello)
	defer instance.Close()
	defer host.Close()

	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{"greeter": {{Addr: instance.Listener.Addr().String()}}}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()

	client := &http.Client{Timeout: 5 * time.Second} // the client that exists already
	client.Transport = httpmesh.NewTransport(mesh, client.Transport)
	defer client.CloseIdleConnections()
	for _, url := range []string{"http://greeter/service", host.URL + "/host"} {
		resp, err := client.Get(url)
		if err != nil {
			log.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		fmt.Println(resp.StatusCode, string(body), err)
	}
	// Output:
	// 200 hello, /service <nil>
	// 200 hello, /host <nil>
}

// A POST is sent once, unless a key lets the service tell a repetition from a second order. Here an instance breaks the
// connection when it has read the order already.
func ExampleTransport_idempotencyKey() {
	var attempts atomic.Int64
	instance := func() *httptest.Server {
		return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			order, err := io.ReadAll(r.Body)
			n := attempts.Add(1)
			fmt.Printf("attempt %d: %s, key %s\n", n, order, r.Header.Get("Idempotency-Key"))
			if n == 1 || err != nil {
				panic(http.ErrAbortHandler)
			}
			w.WriteHeader(http.StatusCreated)
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

	req, err := http.NewRequest(http.MethodPost, "http://orders/v1/orders", strings.NewReader("two lamps"))
	if err != nil {
		log.Fatal(err)
	}
	req.Header.Set("Idempotency-Key", "7f0c")
	resp, err := client.Do(req)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
	// Output:
	// attempt 1: two lamps, key 7f0c
	// attempt 2: two lamps, key 7f0c
	// 201 Created
}

// A read that is among the slowest twentieth is joined by another one on another instance. The first answer wins.
func ExampleTransport_hedge() {
	var stuck atomic.Bool
	instance := func() *httptest.Server {
		return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/stuck" && stuck.CompareAndSwap(false, true) {
				<-r.Context().Done() // the first instance that gets this one hangs until it is given up
			}
		}))
	}
	a, b := instance(), instance()
	defer a.Close()
	defer b.Close()

	mesh, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"catalog": {{Addr: a.Listener.Addr().String()}, {Addr: b.Listener.Addr().String()}}},
		Spec: zerohop.Spec{Services: map[string]zerohop.Policy{
			"catalog": {Backup: zerohop.Backup{Quantile: 0.95, Factor: 1, Min: 5 * time.Millisecond}},
		}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()
	client := &http.Client{Transport: httpmesh.NewTransport(mesh, nil)}
	defer client.CloseIdleConnections()

	get := func(url string) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			log.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
	}
	for range 50 { // what is usual is learned from the answers
		get("http://catalog/lamps")
	}
	start := time.Now()
	get("http://catalog/stuck")
	fmt.Println("answered in less than a second:", time.Since(start) < time.Second)
	// Output: answered in less than a second: true
}

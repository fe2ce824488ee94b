package zerohop_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/loadbalance"
)

// A client that exists already is put on a mesh. One of the two instances is down, which costs the caller nothing.
func ExampleNew() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "order of %s", r.Host)
	}))
	defer server.Close()

	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{"orders": {
		{Addr: server.Listener.Addr().String()},
		{Addr: "127.0.0.1:1"}, // nobody listens there
	}}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()

	client := &http.Client{Transport: httpmesh.NewTransport(mesh, nil)}
	resp, err := client.Get("http://orders/v1/orders/42")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, string(body), err)

	_, err = client.Get("http://ledger/")
	var failed *zerohop.Error
	fmt.Println(errors.As(err, &failed), failed.Reason, failed.Sent, errors.Is(err, discovery.ErrUnknownService))
	// Output:
	// 200 order of orders <nil>
	// true no endpoints false true
}

// Do calls a service over a protocol that has no transport of its own here.
func ExampleDo() {
	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{"ledger": {{Addr: "10.0.0.1:7000"}, {Addr: "10.0.0.2:7000"}}}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()

	attempts := 0
	balance, err := zerohop.Do(context.Background(), mesh, "ledger", func(_ context.Context, node *loadbalance.Node) (int, error) {
		attempts++ // Connect to node.Addr() here. The first instance refuses.
		if attempts == 1 {
			return 0, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
		}
		return 42, nil
	})
	fmt.Println(balance, err, attempts)
	// Output: 42 <nil> 2
}

// Options for one call travel in its context.
func ExampleWithCall() {
	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{"ledger": {{Addr: "10.0.0.1:7000"}}}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()

	ctx := zerohop.WithCall(context.Background(), zerohop.CallOptions{
		Timeout:    time.Second,
		Attempts:   2,
		Idempotent: zerohop.On,
	})
	_, err = zerohop.Do(ctx, mesh, "ledger", func(context.Context, *loadbalance.Node) (int, error) {
		return 0, errors.New("ledger is locked")
	})
	var failed *zerohop.Error
	if errors.As(err, &failed) {
		fmt.Printf("%s after %d attempts: %v\n", failed.Detail, len(failed.Attempts), failed.Err)
	}
	// Output: attempts exhausted after 2 attempts: ledger is locked
}

// A report tells what happened to calls, be their answers good or bad.
func ExampleWithReport() {
	mesh, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"orders": {{Addr: "10.0.0.1:80"}, {Addr: "10.0.0.2:80"}}},
		Spec:     zerohop.Spec{Defaults: zerohop.Policy{Idempotent: zerohop.On}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()

	ctx, report := zerohop.WithReport(context.Background())
	attempts := 0
	_, err = zerohop.Do(ctx, mesh, "orders", func(context.Context, *loadbalance.Node) (string, error) {
		if attempts++; attempts == 1 {
			return "", errors.New("connection reset")
		}
		return "shipped", nil
	})
	fmt.Println(err)
	for _, call := range report.Calls() {
		fmt.Println(call.Service, call.Detail)
		for _, a := range call.Attempts { // Addr, Start and Duration tell where, when and how long
			fmt.Println("-", a.Cause, a.Outcome, a.Err)
		}
	}
	// Output:
	// <nil>
	// orders answered
	// - first failure connection reset
	// - retry success <nil>
}

// Calls of one user go to the same instance, whichever that is: to the one that has his data in its cache.
func ExampleHashSource() {
	var endpoints []discovery.Endpoint
	for i := range 3 {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "instance %d", i)
		}))
		defer server.Close()
		endpoints = append(endpoints, discovery.Endpoint{Addr: server.Listener.Addr().String()})
	}
	mesh, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"orders": endpoints},
		Spec: zerohop.Spec{Services: map[string]zerohop.Policy{"orders": {
			Balance: "rendezvous",
			Hash:    []zerohop.HashSource{{Header: "X-User"}, {Cookie: "session"}},
		}}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()

	client := &http.Client{Transport: httpmesh.NewTransport(mesh, nil)}
	for _, user := range []string{"ann", "bob"} {
		instances := map[string]bool{}
		for range 10 {
			req, err := http.NewRequest(http.MethodGet, "http://orders/v1/orders", nil)
			if err != nil {
				log.Fatal(err)
			}
			req.Header.Set("X-User", user)
			resp, err := client.Do(req)
			if err != nil {
				log.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil {
				log.Fatal(err)
			}
			instances[string(body)] = true
		}
		fmt.Printf("%s was served by %d instance\n", user, len(instances))
	}
	// Output:
	// ann was served by 1 instance
	// bob was served by 1 instance
}

// A preset has the defaults of what one comes from, here outlier detection as in Envoy: after five failures in a row an
// endpoint gets no calls for 30 s. What the service sets itself comes before the preset.
func ExamplePolicy_preset() {
	var endpoints []discovery.Endpoint
	for i := range 10 {
		endpoints = append(endpoints, discovery.Endpoint{Addr: fmt.Sprintf("10.0.0.%d:7000", i)})
	}
	mesh, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"ledger": endpoints},
		Spec: zerohop.Spec{Services: map[string]zerohop.Policy{
			"ledger": {Preset: zerohop.PresetEnvoy, Timeout: 3 * time.Second},
		}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()

	failed := 0
	for range 100 {
		_, err := zerohop.Do(context.Background(), mesh, "ledger", func(_ context.Context, node *loadbalance.Node) (int, error) {
			if node.Addr() == "10.0.0.7:7000" {
				return 0, errors.New("out of order")
			}
			return 1, nil
		})
		if err != nil {
			failed++
		}
	}
	fmt.Println(failed, "of 100 calls failed")
	// Output: 5 of 100 calls failed
}

package console_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/telemetry/console"
)

// A page about the calls of a process, and the same for machines.
func Example() {
	c, err := console.New(console.Config{Name: "checkout"})
	if err != nil {
		panic(err)
	}
	defer c.Close()
	mesh, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"orders": {{Addr: "10.0.0.1:8080"}, {Addr: "10.0.0.2:8080"}}},
		Hooks:    zerohop.JoinHooks(c.Hooks()), // beside those of telemetry
	})
	if err != nil {
		panic(err)
	}
	defer mesh.Close()

	internal := http.NewServeMux() // on a port that only operators reach
	internal.Handle("/debug/zerohop/", c)
	server := httptest.NewServer(internal)
	defer server.Close()

	_, err = zerohop.Do(context.Background(), mesh, "orders", func(context.Context, *loadbalance.Node) (int, error) { return 42, nil })
	if err != nil {
		panic(err)
	}
	resp, err := http.Get(server.URL + "/debug/zerohop/api/summary?service=orders")
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	var s console.Summary
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		panic(err)
	}
	for _, l := range s.Services {
		fmt.Printf("%s: %s, %d endpoints, %d calls\n", l.Service, l.Status, l.Endpoints, l.Calls)
	}
	// Output: orders: ok, 2 endpoints, 1 calls
}

// Operators act by a handler of its own, which asks the program who they are.
func ExampleNewAdmin() {
	c, err := console.New(console.Config{AdminPath: "/ops/zerohop"}) // so that the page offers it
	if err != nil {
		panic(err)
	}
	defer c.Close()
	admin, err := console.NewAdmin(console.AdminConfig{
		Console: c,
		Authorize: func(r *http.Request) (string, error) {
			user, password, ok := r.BasicAuth()
			if !ok || user != "ann" || password != "correct horse" { // ask who knows
				return "", errors.New("unknown user")
			}
			return user, nil
		},
		Audit:       func(ev console.AuditEvent) { fmt.Printf("%q: %s: %v\n", ev.Who, ev.Request.Action, ev.Err) },
		MaxDuration: 10 * time.Minute,
	})
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/debug/zerohop/", c)
	mux.Handle("/ops/zerohop", admin)
	_ = mux
}

package httpmesh_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/routing"
)

// A tester gets the next version, its calls are copied to the one after that, and who asks for a fault gets one.
func ExampleTransport_routes() {
	copies := make(chan string, 1)
	var servers []*httptest.Server
	serve := func(name string) []discovery.Endpoint {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get(httpmesh.MirrorHeader) != "" {
				copies <- name + " got a copy of " + r.URL.Path
			}
			fmt.Fprintf(w, "%s: %s", name, r.URL.Path)
		}))
		servers = append(servers, s)
		return []discovery.Endpoint{{Addr: s.Listener.Addr().String()}}
	}
	mesh, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"orders": serve("stable"), "orders-next": serve("next"), "orders-dev": serve("dev")},
		Spec: zerohop.Spec{Routes: []routing.Rule{
			{
				Name:     "canary",
				Match:    routing.Match{Service: "orders", Headers: []routing.Field{{Name: "X-Tester", Present: true}}},
				Backends: []routing.Backend{{Service: "orders-next", Credentials: true}},
				Rewrite:  routing.Rewrite{Path: routing.PathRewrite{Regex: "^/v1/", Replacement: "/v2/"}},
				Mirrors:  []routing.Mirror{{Service: "orders-dev"}},
			},
			{Name: "chaos", Match: routing.Match{Service: "orders"}, Fault: routing.Fault{ByHeader: true}},
		}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer func() {
		mesh.Close()
		for _, s := range servers {
			s.Close()
		}
	}()
	client := &http.Client{Transport: httpmesh.NewTransport(mesh, nil)}
	get := func(header, value string) {
		req, err := http.NewRequest(http.MethodGet, "http://orders/v1/42", nil)
		if err != nil {
			log.Fatal(err)
		}
		req.Header.Set(header, value)
		resp, err := client.Do(req)
		if err != nil {
			log.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		fmt.Println(resp.StatusCode, string(body))
	}
	get("Accept", "*/*")
	get("X-Tester", "ann")
	fmt.Println(<-copies)
	get("Zerohop-Fault-Abort", "503")
	// Output:
	// 200 stable: /v1/42
	// 200 next: /v2/42
	// dev got a copy of /v2/42
	// 503 zerohop: fault injected: status 503 by route "chaos"
}

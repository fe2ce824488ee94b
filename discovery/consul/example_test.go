package consul_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/consul"
)

// agent stands in for a Consul agent that knows two instances of every service.
var agent = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
	if req.FormValue("index") != "" {
		<-req.Context().Done() // nothing changes
		return
	}
	w.Header().Set("X-Consul-Index", "1")
	w.Header().Set("X-Consul-KnownLeader", "true")
	w.Header().Set("X-Consul-LastContact", "0")
	fmt.Fprint(w, `[
		{"Service": {"Address": "192.0.2.1", "Port": 8080, "Weights": {"Passing": 2}}},
		{"Service": {"Address": "192.0.2.2", "Port": 8080, "Meta": {"zone": "eu-1"}}}
	]`)
})

func ExampleResolver() {
	server := httptest.NewServer(agent)
	defer server.Close()

	client, err := consul.NewClient(api.Config{Address: server.URL, Transport: &http.Transport{DisableKeepAlives: true}})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	resolver := consul.Resolver{Client: client}
	err = discovery.Run(ctx, resolver, "orders", discovery.RunOptions{}, func(set []discovery.Endpoint) {
		for _, ep := range set {
			fmt.Printf("%s weight %d zone %q\n", ep.Addr, ep.Weight, ep.Zone)
		}
		cancel()
	})
	fmt.Println(err)
	// Output:
	// 192.0.2.1:8080 weight 2 zone ""
	// 192.0.2.2:8080 weight 1 zone "eu-1"
	// context canceled
}

func ExampleRegistrar() {
	client, err := consul.NewClient(api.Config{Address: "127.0.0.1:8500"})
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", ":8080")
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: http.NotFoundHandler()}
	go func() { _ = server.Serve(listener) }()

	// The listener is on all addresses. Callers are told the one in this network.
	registrar := consul.Registrar{
		Client:      client,
		Advertising: discovery.Advertising{Prefer: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
		OnError:     func(err error) { log.Print(err) },
	}
	registration, err := registrar.Register(context.Background(), discovery.Instance{
		Service:  "orders",
		Endpoint: discovery.Endpoint{Addr: listener.Addr().String(), Zone: "eu-1"},
	})
	if err != nil {
		log.Fatal(err)
	}
	// ... and take the instance out before the server stops:
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := registration.Close(ctx); err != nil {
		log.Print(err)
	}
	_ = server.Shutdown(ctx)
}

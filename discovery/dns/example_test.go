package dns_test

import (
	"log"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery/dns"
)

// Kubernetes lists the ready endpoints of a headless service with named ports as SRV records.
func Example() {
	mesh, err := zerohop.New(zerohop.Config{Resolver: dns.Resolver{
		Name: "_http._tcp.{service}.default.svc.cluster.local",
		SRV:  true,
	}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()
}

// Without SRV records the port has to be known.
func Example_addresses() {
	mesh, err := zerohop.New(zerohop.Config{Resolver: dns.Resolver{
		Name:    "{service}.example.com",
		Port:    8080,
		Servers: []string{"10.0.0.2", "10.0.0.3"},
	}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()
}

// Package file finds services in a file of YAML or JSON that is watched, for example a Kubernetes ConfigMap or one that
// a configuration management writes.
//
//	mesh, err := zerohop.New(zerohop.Config{Resolver: &file.Resolver{Path: "/etc/mesh/endpoints.yaml"}})
//
// The file has one list of endpoints for each service:
//
//	services:
//	  orders:
//	  - 10.0.0.1:8080
//	  - addr: orders-2.example.com:8080
//	    weight: 3            # 1 to 1000000, by default 1
//	    zone: eu-1
//	    priority: 1          # 0 to 255, by default 0: used first
//	    health: draining     # or healthy (the default), unhealthy, terminating
//	    meta: {version: "2"}
//	  invoices: []           # known, and without endpoints
//
// The names are those of the fields of [discovery.Endpoint]. IPv6 addresses need quotes: "[2001:db8::1]:8080". In JSON
// the fields are the same. A name that ends in ".json" makes a file JSON, ".yaml" or ".yml" YAML; any other is JSON
// if it begins with "{".
//
// A file is taken as a whole or not at all: with one mistake in it, all services stay as they are, and the error
// of the watch lists the mistakes by line and field. What is still being written is not taken either, which a
// [Resolver] knows by size and time of change, once they have been the same for a tenth of a second. No reader can tell a
// slower writer from one that is done, if what is there so far is valid YAML. So write to another file beside it and
// rename that, as ConfigMaps and editors do, or use JSON, which is not valid before its last brace.
//
// Use package discovery's Static if the endpoints do not change while the process runs.
package file

// Zerohop shows what package discovery makes of a source: the endpoints that a mesh in this place would use, what it leaves out
// or holds back, and why. And it judges configuration before it ships; see package vet and docs/vet.md.
//
//	zerohop endpoints orders --from consul://127.0.0.1:8500?dc=dc1
//	zerohop endpoints orders --from file:///etc/mesh/endpoints.yaml --once
//	zerohop route --spec mesh.yaml GET http://orders/v2 -H "X-Beta: 1"
//	zerohop diff old.yaml new.yaml
//	zerohop vet --graph graph.yaml orders.yaml stock.yaml
//	zerohop import --from gateway-api routes.yaml -o spec.yaml
//	zerohop incident show web-1.jsonl.gz web-2.jsonl.gz
//	zerohop accel up --cgroup /sys/fs/cgroup/mesh.slice
//	zerohop help
//	zerohop version
//
// On a terminal endpoints draws a table again with each change, until Ctrl-C. Elsewhere it writes a line for each change, or with
// "-o json" a document; docs/discovery.md lists its fields. "zerohop help" lists the sources and flags.
//
// It makes no call and reads no metrics: what endpoints look like to their callers is told by package telemetry.
package main

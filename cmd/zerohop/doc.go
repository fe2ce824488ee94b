// Zerohop shows what package discovery makes of a source: the endpoints that a mesh in this place would use, what it leaves out
// or holds back, and why.
//
//	zerohop endpoints orders --from consul://127.0.0.1:8500?dc=dc1
//	zerohop endpoints orders --from file:///etc/mesh/endpoints.yaml --once
//	zerohop help
//	zerohop version
//
// On a terminal it draws a table again with each change, until Ctrl-C. Elsewhere it writes a line for each change, or with
// "-o json" a document; docs/discovery.md lists its fields. "zerohop help" lists the sources and flags.
//
// It makes no call and reads no metrics: what endpoints look like to their callers is told by package telemetry.
package main

// Package etcd finds services in etcd and registers them there. The resolver lists and watches keys, so a change arrives
// within milliseconds; the registrar keeps an instance registered for ever under a lease.
//
//	client, err := etcd.NewClient(clientv3.Config{Endpoints: []string{"127.0.0.1:2379"}})
//	...
//	mesh, err := zerohop.New(zerohop.Config{Resolver: etcd.Resolver{Client: client}})
//
// etcd has no catalog of services, only keys and values, so each library has a form of its own. These are understood, by
// their keys (set Resolver.Prefix) and their values (recognized, even side by side):
//
//	etcd's gRPC naming   <service>/<id>                         {"Op":0,"Addr":"10.0.0.1:8080","Metadata":{"version":"2"}}
//	go-zero              <key>/<lease>                          10.0.0.1:8080
//	Kratos               /microservices/<service>/<id>          {"id":"...","endpoints":["grpc://10.0.0.1:9000?isSecure=false"],"metadata":{}}
//	Kitex                kitex/registry-etcd/<service>/<addr>   {"network":"tcp","address":"10.0.0.1:8888","weight":10,"tags":{}}
//	zerohop              <service>/<id>                         {"Op":0,"Addr":"10.0.0.1:8080","Metadata":{},"Weight":5,"Zone":"eu-1"}
//
// That of zerohop, which [Registrar] writes, is a superset of the first: clients of etcd's gRPC naming can read it. What
// becomes of a value:
//
//	Addr       "Addr", the host and port of the URL of Resolver.Scheme in "endpoints", "address", or the whole text
//	Weight     "weight", else the metadata "weight"
//	Zone       "Zone", else the metadata "zone"
//	Priority   "Priority", else the metadata "zerohop-priority"
//	Health     "Health": healthy (the default), draining, unhealthy or terminating
//	Meta       the rest of "metadata" or of an object "tags"; a list "tags" joined by commas as "tags"; "secure" is
//	           "true" if the URL is one of https or grpcs
//
// etcd checks nothing: an instance is there until it is removed or its lease runs out. For forms of your own set
// Resolver.Decode and Registrar.Encode. Do not use it for more than some thousand instances that change all the time; each
// change goes to every watch.
package etcd

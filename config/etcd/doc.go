// Package etcd watches a configuration in etcd, so a change arrives within milliseconds.
//
//	client, err := discovery.NewClient(clientv3.Config{Endpoints: []string{"127.0.0.1:2379"}}) // of package discovery/etcd
//	...
//	go config.Run(ctx, mesh, etcd.Source{Client: client, Key: "/mesh/orders.yaml"}, config.RunOptions{})
//
// The document is the value of one key:
//
//	etcdctl put /mesh/orders.yaml <mesh.yaml
//
// A key that is deleted takes the document away, and the mesh keeps the last one. etcd takes requests of up to 1.5 MiB
// (--max-request-bytes); more than 4 MiB is refused here.
//
// # Permissions
//
// With authentication the user needs a role that reads the key, and nothing else:
//
//	etcdctl role add mesh-reader
//	etcdctl role grant-permission mesh-reader read /mesh/orders.yaml
//	etcdctl user grant-role orders mesh-reader
//
// Who may write the key decides where the calls of all readers go: let few do it.
//
// Do not use it only to avoid a file: a program whose configuration is deployed with it needs no store.
package etcd

// Package consul watches a configuration in the KV store of Consul, with blocking queries, so a change arrives within
// milliseconds.
//
//	client, err := discovery.NewClient(api.Config{Address: "127.0.0.1:8500"}) // of package discovery/consul
//	...
//	go config.Run(ctx, mesh, consul.Source{Client: client, Key: "mesh/orders.yaml"}, config.RunOptions{})
//
// The document is the value of one key:
//
//	consul kv put mesh/orders.yaml @mesh.yaml
//
// A key that is deleted takes the document away, and the mesh keeps the last one. Consul takes values of up to 512 KiB
// (limits.kv_max_value_size); more than 4 MiB is refused here.
//
// # Permissions
//
// With ACLs the token needs to read the key, and nothing else:
//
//	key "mesh/orders.yaml" {
//	  policy = "read"
//	}
//
// Who may write the key decides where the calls of all readers go: let few do it.
//
// Do not use it for what changes more often than once a second: of several changes within a second only the last one comes.
package consul

// Package kubernetes watches a configuration in a ConfigMap at the API server, so a change arrives within milliseconds. The same
// ConfigMap mounted as a volume takes up to two minutes, and package config/file.
//
//	client, err := discovery.NewClient(discovery.ClientConfig{}) // of package discovery/kubernetes; in a pod: its service account
//	...
//	source := kubernetes.Source{Client: client, Name: "mesh", Key: "mesh.yaml"}
//	go config.Run(ctx, mesh, source, config.RunOptions{})
//
// The document is one key of the ConfigMap, in data or binaryData:
//
//	kubectl create configmap mesh --from-file=mesh.yaml --dry-run=client -o yaml | kubectl apply -f -
//
// A ConfigMap or a key that is deleted takes the document away, and the mesh keeps the last one. Kubernetes takes ConfigMaps of up
// to 1 MiB.
//
// # Permissions
//
// In the namespace of the ConfigMap, a Role for this one alone:
//
//	rules:
//	- apiGroups: [""]
//	  resources: ["configmaps"]
//	  resourceNames: ["mesh"]
//	  verbs: ["list", "watch"]
//
// Who may write the ConfigMap decides where the calls of all readers go: let few do it.
//
// # What it costs the API server
//
// Each watch is one request held open for this object alone, and a list of it every 8 to 12 minutes. All watches of a client share
// few HTTP/2 connections.
//
// Do not use it where the process may have no access to the API server: mount the ConfigMap and use package config/file.
package kubernetes

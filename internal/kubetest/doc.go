// Package kubetest runs a real Kubernetes API server on etcd for integration tests: on free ports of loopback, killed when
// the test ends, without controllers, so that tests write EndpointSlices themselves. It works on Unix only.
//
//	server := kubetest.Start(t)
//	server.PutSlice(t, &discoveryv1.EndpointSlice{...})
//	client, err := kubernetes.NewClient(kubernetes.ClientConfig{REST: server.Config(kubetest.AdminToken)})
package kubetest

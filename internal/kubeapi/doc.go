// Package kubeapi lists and watches objects of Kubernetes with the bounds that a library needs: one request a second, answers of
// bounded size, dead connections found, refusals told apart. It has what watches of services and of configuration share.
package kubeapi

package kubernetes_test

import (
	"fmt"
	"log"
	"net/http"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery/kubernetes"
	"github.com/zerohop/zerohop/httpmesh"
)

// In a pod whose service account may read EndpointSlices.
func ExampleResolver() {
	client, err := kubernetes.NewClient(kubernetes.ClientConfig{})
	if err != nil {
		log.Fatal(err)
	}
	mesh, err := zerohop.New(zerohop.Config{Resolver: kubernetes.Resolver{
		Client:   client,
		Port:     "http",
		Services: map[string]string{"payments": "payments.billing:8443"}, // another namespace, and the number of a port
	}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()

	orders := &http.Client{Transport: httpmesh.NewTransport(mesh, nil)}
	resp, err := orders.Get("http://orders/v1/orders/42")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
}

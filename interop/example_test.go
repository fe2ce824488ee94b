package interop_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"connectrpc.com/connect"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/interop/shop"
	"github.com/zerohop/zerohop/interop/shop/shopconnect"
)

// A generated Connect client takes an http.Client, and that a Transport. Queries are sent by GET, which may be repeated;
// for other calls the caller says so.
func Example() {
	good, bad := &node{name: "good"}, &node{name: "bad"}
	bad.err.Store(connect.NewError(connect.CodeUnavailable, errors.New("closed for lunch")))
	var endpoints []discovery.Endpoint
	for _, b := range []*node{good, bad} {
		server := httptest.NewServer(b.handler())
		defer server.Close()
		endpoints = append(endpoints, discovery.Endpoint{Addr: server.Listener.Addr().String()})
	}

	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{"shop": endpoints}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()
	client := shopconnect.NewShopClient(
		&http.Client{Transport: httpmesh.NewTransport(mesh, &http.Transport{})},
		"http://shop", // the service, not a host
		connect.WithHTTPGet(),
	)

	ctx := context.Background()
	for range 3 {
		answer, err := client.Price(ctx, connect.NewRequest(&shop.Item{Text: "apple"}))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(answer.Msg.Text, "from", answer.Msg.Node)
	}
	ctx = zerohop.WithCall(ctx, zerohop.CallOptions{Idempotent: zerohop.On})
	answer, err := client.Order(ctx, connect.NewRequest(&shop.Item{Text: "pear"}))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.Msg.Text, "from", answer.Msg.Node)
	// Output:
	// apple from good
	// apple from good
	// apple from good
	// pear from good
}

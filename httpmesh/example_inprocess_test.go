package httpmesh_test

import (
	"fmt"
	"io"
	"log"
	"net/http"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
)

// Two services are in one program: calls from one to the other go through the mesh all the same, without a connection. When one of them
// moves out, only the Resolver changes.
func ExampleTransport_handlers() {
	stock := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s: 42 in stock", r.URL.Path)
	})
	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{"stock": {{Addr: "stock.invalid:1"}}}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()
	transport := httpmesh.NewTransport(mesh, nil)
	transport.Handlers = map[string]http.Handler{"stock.invalid:1": stock}

	resp, err := (&http.Client{Transport: transport}).Get("http://stock/book")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", body)
	// Output: /book: 42 in stock
}

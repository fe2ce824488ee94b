package httpmesh_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
)

// A client with a cookie jar stays on the instance that answered it first.
func ExampleTransport_session() {
	var eps []discovery.Endpoint
	for _, name := range []string{"a", "b", "c"} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) }))
		defer s.Close()
		eps = append(eps, discovery.Endpoint{Addr: s.Listener.Addr().String()})
	}
	mesh, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"shop": eps},
		Spec: zerohop.Spec{Services: map[string]zerohop.Policy{
			"shop": {Sticky: zerohop.Sticky{Cookie: zerohop.Cookie{Name: "shop-session"}}},
		}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()

	jar, err := cookiejar.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Transport: httpmesh.NewTransport(mesh, nil), Jar: jar}
	defer client.CloseIdleConnections()
	instances := map[string]bool{}
	for range 10 {
		resp, err := client.Get("http://shop/basket")
		if err != nil {
			log.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			log.Fatal(err)
		}
		instances[string(body)] = true
	}
	fmt.Println("10 calls, instances:", len(instances))
	// Output: 10 calls, instances: 1
}

package httpmesh_test

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
)

// The standard library's reverse proxy becomes a gateway to a service. Program examples/gateway does it for several.
func ExampleTransport_reverseProxy() {
	instance := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "order %s", strings.TrimPrefix(r.URL.Path, "/v1/"))
	}))
	defer instance.Close()
	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{"orders": {
		{Addr: "127.0.0.1:1"}, // nobody listens there
		{Addr: instance.Listener.Addr().String()},
	}}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()

	transport := httpmesh.NewTransport(mesh, nil)
	defer transport.CloseIdleConnections()
	gateway := httptest.NewServer(&httputil.ReverseProxy{
		Transport: transport,
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "orders"}) },
	})
	defer gateway.Close()

	resp, err := http.Get(gateway.URL + "/v1/42")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, string(body), err)
	// Output: 200 order 42 <nil>
}

// The body of a 101 answer can be written to, which is what WebSocket libraries build on. Here the server sends back
// what it hears.
func ExampleTransport_webSocket() {
	instance := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			log.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(conn, rw)
	}))
	defer instance.Close()
	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{"chat": {{Addr: instance.Listener.Addr().String()}}}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()

	req, err := http.NewRequest(http.MethodGet, "http://chat/room", nil)
	if err != nil {
		log.Fatal(err)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket") // and Sec-WebSocket-Key, in earnest
	resp, err := httpmesh.NewTransport(mesh, nil).RoundTrip(req)
	if err != nil {
		log.Fatal(err)
	}
	conn := resp.Body.(io.ReadWriteCloser)
	defer conn.Close()

	fmt.Fprintln(conn, "hello")
	answer, err := bufio.NewReader(conn).ReadString('\n')
	fmt.Printf("%s: %q %v\n", resp.Status, answer, err)
	// Output: 101 Switching Protocols: "hello\n" <nil>
}

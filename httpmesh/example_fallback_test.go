package httpmesh_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
)

// The shop goes on selling from yesterday's catalogue when that of today cannot be had.
func ExampleTransport_fallback() {
	catalogue := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "out of order", http.StatusServiceUnavailable)
	}))
	defer catalogue.Close()
	mesh, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"catalogue": {{Addr: catalogue.Listener.Addr().String()}}},
		Spec:     zerohop.Spec{Defaults: zerohop.Policy{Retry: zerohop.Retry{Base: time.Millisecond}}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()
	transport := httpmesh.NewTransport(mesh, nil)
	transport.Fallback = func(req *http.Request, resp *http.Response, err error) *http.Response {
		if req.Method != http.MethodGet {
			return nil
		}
		return &http.Response{
			Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{"Warning": {`110 - "Response is Stale"`}}, Body: io.NopCloser(strings.NewReader("tea, coffee")),
		}
	}
	client := &http.Client{Transport: transport}
	resp, err := client.Get("http://catalogue/today")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(resp.Status, string(body), err)
	// Output: 200 OK tea, coffee <nil>
}

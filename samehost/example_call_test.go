//go:build linux || darwin

package samehost_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/samehost"
)

// A caller takes sockets from the directories that it names.
func ExamplePolicy() {
	dir, err := os.MkdirTemp("", "shop")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	l, err := samehost.Listen(tcp, samehost.ListenConfig{Directory: dir})
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "42 in stock") })}
	go server.Serve(l)
	defer server.Close()

	mesh, err := zerohop.New(zerohop.Config{
		// What a registry would say of the server.
		Resolver: discovery.Static{"stock": {{Addr: l.Addr().String(), Meta: l.Meta()}}},
		Sockets:  samehost.Policy{Directories: []string{dir}},
		Hooks: zerohop.Hooks{AttemptDone: func(_ context.Context, call zerohop.CallInfo, _ zerohop.AttemptInfo, r zerohop.AttemptResult) {
			fmt.Println(call.Service, "was reached over", r.Network)
		}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()
	transport := httpmesh.NewTransport(mesh, nil)
	defer transport.CloseIdleConnections()

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
	// Output:
	// stock was reached over unix
	// 42 in stock
}

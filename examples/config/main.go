// Command config shows a mesh whose routes are in a file that changes while calls are made. It starts two services itself, has
// the file send calls to the one, then to the other, and then breaks the file:
//
//	go run ./examples/config
//
// It prints:
//
//	hello from 1
//	applied: routes.greeter.backends[0].service
//	hello from 2
//	refused: mesh.yaml:11:3: routes[0].mach: unknown field, did you mean "match"?
//	hello from 2
package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/config"
	"github.com/zerohop/zerohop/config/file"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
)

//go:embed mesh.yaml
var document []byte

func main() {
	dir, err := os.MkdirTemp("", "zerohop")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "mesh.yaml")
	write(path, document)

	ctx, cancel := context.WithCancel(context.Background())
	events := make(chan config.Event, 10)
	source := file.Source{Path: path}
	opts := config.RunOptions{
		Parse:   config.ParseOptions{Name: "mesh.yaml", Expand: os.LookupEnv},
		Observe: func(e config.Event) { events <- e }, // a program would log them
	}
	spec, err := config.Load(ctx, source, opts)
	if err != nil {
		log.Fatal(err)
	}
	one, two := serve("1"), serve("2")
	defer one.Close()
	defer two.Close()
	mesh, err := zerohop.New(zerohop.Config{Spec: spec, Resolver: discovery.Static{
		"greeter-1": {{Addr: one.Listener.Addr().String()}}, "greeter-2": {{Addr: two.Listener.Addr().String()}},
	}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()
	done := make(chan error)
	go func() { done <- config.Run(ctx, mesh, source, opts) }()
	defer func() { cancel(); <-done }()

	client := &http.Client{Transport: httpmesh.NewTransport(mesh, nil)}
	call(client)

	write(path, bytes.Replace(document, []byte("- service: greeter-1"), []byte("- service: greeter-2"), 1))
	for e := range events {
		if e.Kind == config.EventApplied {
			fmt.Println("applied:", e.Change.Fields[0].Path)
			break
		}
	}
	call(client)

	write(path, bytes.Replace(document, []byte("match:"), []byte("mach:"), 1))
	for e := range events {
		if e.Kind == config.EventRefused {
			fmt.Println("refused:", e.Err)
			break
		}
	}
	call(client)
}

// write puts a file in its place in one step.
func write(path string, data []byte) {
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		log.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		log.Fatal(err)
	}
}

func call(client *http.Client) {
	resp, err := client.Get("http://greeter/") // a service that only the routes know
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(os.Stdout, resp.Body); err != nil {
		log.Fatal(err)
	}
}

func serve(name string) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "hello from", name)
	}))
}

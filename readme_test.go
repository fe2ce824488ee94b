package zerohop_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/consul"
	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/lifecycle"
	"github.com/zerohop/zerohop/routing"
)

func Example_readmeHTTP() {
	mesh, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"orders": {{Addr: "10.0.0.1:8080"}, {Addr: "10.0.0.2:8080"}}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()

	client := &http.Client{Transport: httpmesh.NewTransport(mesh, nil)}
	resp, err := client.Get("http://orders/v1/orders/42") // "orders" is a service, not a host
	if err != nil {
		log.Fatal(err) // a *zerohop.Error says which instances were tried, and why it ended
	}
	defer resp.Body.Close()
}

func Example_readmeGRPC() {
	client, err := consul.NewClient(api.Config{Address: "127.0.0.1:8500"})
	if err != nil {
		log.Fatal(err)
	}
	mesh, err := zerohop.New(zerohop.Config{Resolver: consul.Resolver{Client: client}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()

	conn, err := grpc.NewClient(grpcmesh.Target("orders"),
		append(grpcmesh.DialOptions(mesh), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close() // a plain *grpc.ClientConn: every generated stub works
}

func readmeAdmission(mux *http.ServeMux) http.Handler {
	admission, err := zerohop.NewAdmission(zerohop.AdmissionConfig{Policy: zerohop.AdmissionPolicy{Mode: zerohop.On}})
	if err != nil {
		log.Fatal(err)
	}
	handler := httpmesh.NewHandler(mux, httpmesh.HandlerOptions{Admission: admission})
	return handler
}

func readmeServer(ctx context.Context, client *api.Client, mux *http.ServeMux) error {
	listener, err := net.Listen("tcp", ":8080")
	if err != nil {
		log.Fatal(err)
	}
	handler := httpmesh.NewHandler(mux, httpmesh.HandlerOptions{})
	err = lifecycle.Run(ctx, lifecycle.Config{ // registers, serves; on SIGTERM deregisters, drains, closes
		Registrar: consul.Registrar{Client: client},
		OnError:   func(err error) { log.Print(err) }, // a registry that is down or refuses is tried again
		Servers: []lifecycle.Server{
			handler.Serving(&http.Server{Handler: handler}, listener, discovery.Instance{Service: "orders"}),
		},
	})
	return err
}

func Example_readmeGuard() {
	guard, err := httpmesh.NewGuard(nil, zerohop.Config{
		Spec: zerohop.Spec{Defaults: zerohop.Policy{Breaker: zerohop.Breaker{Mode: zerohop.On}}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer guard.Close()
	client := &http.Client{Transport: guard}
	_ = client
}

var _, _ = readmeServer, readmeAdmission

func readmeSpec() zerohop.Spec {
	spec := zerohop.Spec{
		Services: map[string]zerohop.Policy{
			"orders":  {Retry: zerohop.Retry{Attempts: 2}, Breaker: zerohop.Breaker{Mode: zerohop.On}},
			"reports": {Timeout: 30 * time.Second, Backup: zerohop.Backup{Mode: zerohop.Off}},
		},
		Routes: []routing.Rule{{ // a canary: 5 % of the calls under /v2
			Match:    routing.Match{Service: "orders", Path: routing.Path{Prefix: "/v2"}},
			Backends: []routing.Backend{{Service: "orders", Weight: 95}, {Service: "orders-next", Weight: 5}},
		}},
	}
	return spec
}

func operationsEject(mesh *zerohop.Mesh) error {
	err := mesh.Eject(zerohop.Operation{
		Service: "orders", Addr: "10.0.0.1:7000", // what
		For: 10 * time.Minute,           // how long: required, at most 24 h
		By:  "kim", Why: "wrong prices", // for those who ask later
	})
	return err
}

func operationsState(mesh *zerohop.Mesh) {
	for _, s := range mesh.State().Services {
		for _, o := range s.Operations {
			fmt.Println(s.Name, o.Action, o.Addr, "until", o.Until, "by", o.By, o.Why)
		}
	}
}

var _, _ = operationsEject, operationsState

// TestReadmeShowsCodeThatCompiles holds the code in README.md, and in the page on operators, to that of this file.
func TestReadmeShowsCodeThatCompiles(t *testing.T) {
	source := squeezed(t, "readme_test.go")
	for name, want := range map[string]int{"README.md": 6, "docs/operations.md": 2} {
		blocks := 0
		for block := range strings.SplitSeq(squeezed(t, name), "```go\n") {
			if blocks++; blocks == 1 {
				continue // what comes before the first block
			}
			code, _, _ := strings.Cut(block, "```")
			if !strings.Contains(source, code) {
				t.Errorf("%s: not in readme_test.go:\n%s", name, code)
			}
		}
		if got := blocks - 1; got != want {
			t.Errorf("%s has %d blocks of Go, want %d", name, got, want)
		}
	}
	if err := readmeSpec().Validate(); err != nil {
		t.Errorf("Validate() of the spec in README.md = %v", err)
	}
}

// squeezed returns a file without indentation.
func squeezed(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(data), "\t", "")
}

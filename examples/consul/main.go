// Command consul shows a service that registers itself with Consul, and a caller that finds it there.
//
// With an agent running (`consul agent -dev` is enough), start as many instances as you like, each in its own
// terminal, and then the caller:
//
//	go run ./examples/consul serve
//	go run ./examples/consul serve
//	go run ./examples/consul call
//
// The caller prints who answered, once a second:
//
//	hello from 127.0.0.1:41233
//	hello from 127.0.0.1:38017
//
// Stop an instance with Ctrl-C or kill -9, start another one, stop the agent: the caller goes on. The agent is that of
// CONSUL_HTTP_ADDR, and 127.0.0.1:8500 by default.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/consul"
	"github.com/zerohop/zerohop/httpmesh"
)

func main() {
	flags := flag.NewFlagSet("consul serve|call", flag.ExitOnError)
	name := flags.String("name", "greeter", "name of the service")
	listen := flags.String("listen", "127.0.0.1:0", "address to serve on")
	calls := flags.Int("n", 0, "calls to make; 0 means until interrupted")
	var command string
	if len(os.Args) > 1 {
		command = os.Args[1]
		_ = flags.Parse(os.Args[2:]) // it exits on errors
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch command {
	case "serve":
		err = serve(ctx, *name, *listen)
	case "call":
		err = call(ctx, *name, *calls)
	default:
		err = errors.New("usage: consul serve [-name NAME] [-listen ADDR] | consul call [-name NAME] [-n CALLS]")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve answers requests until ctx ends. It registers when it listens and deregisters before it stops.
func serve(ctx context.Context, name, listen string) error {
	client, err := consul.NewClient(*api.DefaultConfig())
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	addr := listener.Addr().String()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "hello from %s\n", addr)
	})}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }() // ended by Shutdown

	// All callers of the example are on this host.
	registrar := consul.Registrar{Client: client, Advertising: discovery.Advertising{AllowLoopback: true}}
	registration, err := registrar.Register(ctx, discovery.Instance{
		Service:  name,
		Endpoint: discovery.Endpoint{Addr: addr},
	})
	if err != nil {
		server.Close()
		return err
	}
	fmt.Println("serving", name, "on", addr)
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	bounded, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return errors.Join(err, registration.Close(bounded), server.Shutdown(bounded))
}

// call calls the service once a second.
func call(ctx context.Context, name string, calls int) error {
	client, err := consul.NewClient(*api.DefaultConfig())
	if err != nil {
		return err
	}
	mesh, err := zerohop.New(zerohop.Config{
		Resolver: consul.Resolver{Client: client},
		// All instances are on this machine. What a registry names is not called there otherwise.
		Addresses: discovery.AddressPolicy{AllowLoopback: true},
	})
	if err != nil {
		return err
	}
	defer mesh.Close()
	web := &http.Client{Transport: httpmesh.NewTransport(mesh, nil), Timeout: 5 * time.Second}

	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 1; ; n++ {
		if err := greet(ctx, web, name); err != nil {
			fmt.Println(err)
		}
		if n == calls {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func greet(ctx context.Context, web *http.Client, name string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+name+"/", nil)
	if err != nil {
		return err
	}
	resp, err := web.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}

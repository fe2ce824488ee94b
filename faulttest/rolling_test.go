//go:build unix

package faulttest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"google.golang.org/grpc"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/consul"
	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/internal/consultest"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/lifecycle"
)

// serviceOf names the service that registered backends are for a protocol.
func serviceOf(protocol string) string { return service + "-" + protocol }

// serveRegistered runs a backend until a signal ends it, as a service would be: registered, and drained at the end.
func (s *server) serveRegistered(h, g net.Listener) error {
	client, err := consul.NewClient(api.Config{Address: s.Consul})
	if err != nil {
		return err
	}
	front := httpmesh.NewHandler(s, httpmesh.HandlerOptions{})
	half := new(grpcmesh.Server)
	rpc := grpc.NewServer(half.ServerOptions()...)
	echopb.RegisterEchoServer(rpc, s)
	fmt.Println(h.Addr(), s.GRPC)
	return lifecycle.Run(context.Background(), lifecycle.Config{
		Registrar: consul.Registrar{Client: client, Advertising: discovery.Advertising{AllowLoopback: true}},
		Servers: []lifecycle.Server{
			front.Serving(&http.Server{Handler: front}, h, discovery.Instance{Service: serviceOf("HTTP")}),
			half.Serving(rpc, g, discovery.Instance{Service: serviceOf("gRPC")}),
		},
		OnError: func(err error) { fmt.Fprintln(os.Stderr, "backend:", err) },
	})
}

// terminate asks the process to end, as orchestrators do, and waits until it has.
func (b *backend) terminate(t *testing.T) {
	t.Helper()
	b.signal(t, syscall.SIGTERM)
	if err := b.cmd.Wait(); err != nil {
		t.Errorf("a backend did not end as it should: %v", err)
	}
	b.control.Close()
	b.cmd = nil
}

// Ten instances that register themselves are replaced one after the other by new ones on other ports, while callers make
// 500 requests a second that they must not lose, half of which must not be repeated.
func TestRollingRestartLosesNoCall(t *testing.T) {
	t.Parallel()
	const (
		instances = 10
		rate      = 125 // of each kind of request
		limit     = 5 * time.Second
	)
	agent := consultest.Start(t, consultest.Options{})
	config := agent.Config("")
	config.Transport = &http.Transport{}
	t.Cleanup(config.Transport.CloseIdleConnections)
	client, err := consul.NewClient(*config)
	if err != nil {
		t.Fatal(err)
	}
	dir := logDir(t)
	newBackend := func(i int) *backend {
		b := &backend{setup: setup{
			Log: fmt.Sprintf("%s/%d", dir, i), Seed: uint64(i + 1), Consul: agent.Addr(),
			capacity: capacity{Workers: 8, Queue: 100, Mean: 10 * time.Millisecond},
		}}
		b.start(t)
		t.Cleanup(func() {
			if b.cmd != nil {
				b.kill(t)
			}
		})
		return b
	}
	var list []*backend
	for i := range instances {
		list = append(list, newBackend(i))
	}
	m, _ := newMesh(t, consul.Resolver{Client: client})
	orders, browser := meshedEcho(t, m, serviceOf("gRPC")), &http.Client{Transport: httpmesh.NewTransport(m, nil)}
	kinds := []struct {
		name string
		call caller
	}{
		{"GET", func(ctx context.Context) error { return send(ctx, browser, http.MethodGet, serviceOf("HTTP")) }},
		{"POST", func(ctx context.Context) error { return send(ctx, browser, http.MethodPost, serviceOf("HTTP")) }},
		{"Say", say(orders)},
		{"Order", func(ctx context.Context) error {
			_, err := orders.Order(ctx, &echopb.SayRequest{Text: "order"})
			return err
		}},
	}
	var runs []*consulRun
	known := func() {
		t.Helper()
		for _, r := range runs {
			r.until(t, limit, r.protocol.addrs(list)...)
		}
	}
	for _, p := range protocols {
		r := &consulRun{protocol: p, service: serviceOf(p.name), changed: make(chan struct{}, 1)}
		r.follow(t, m)
		runs = append(runs, r)
	}
	known()
	var loads []*load
	for _, k := range kinds {
		loads = append(loads, startLoad(t, rate, k.call))
	}
	loads[0].until(time.Second)
	for i := range instances {
		list[i].terminate(t)
		list[i] = newBackend(instances + i)
		known()
	}
	loads[0].until(time.Since(loads[0].began) + time.Second)
	for i, k := range kinds {
		r := loads[i].stop()
		r.log(t, k.name)
		if r.ok < r.calls {
			t.Errorf("%s: %d of %d calls failed", k.name, r.calls-r.ok, r.calls)
		}
	}
}

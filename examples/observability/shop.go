package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/examples/grpc/stockpb"
	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/httpmesh"
)

// shop is the services that are called: orders and payments over HTTP, stock over gRPC.
type shop struct {
	registry *registry
	services map[string][]*instance
}

func open() (*shop, error) {
	s := &shop{registry: &registry{Static: discovery.Static{}}, services: map[string][]*instance{}}
	for service, n := range map[string]int{"orders": 4, "payments": 2, "stock": 3} {
		for range n {
			i, err := start(service == "stock")
			if err != nil {
				s.close()
				return nil, err
			}
			s.services[service] = append(s.services[service], i)
			s.registry.Static[service] = append(s.registry.Static[service], discovery.Endpoint{Addr: i.addr})
		}
	}
	return s, nil
}

func (s *shop) close() {
	for _, list := range s.services {
		for _, i := range list {
			i.stop()
		}
	}
}

// registry is a source of endpoints that may be silent.
type registry struct {
	discovery.Static
	mu     sync.Mutex // guards what follows
	silent bool
	ends   []context.CancelCauseFunc // of watches
}

var errSilent = errors.New("the registry does not answer")

// Watch implements discovery.Resolver.
func (r *registry) Watch(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	r.mu.Lock()
	silent := r.silent
	r.ends = append(r.ends, end)
	r.mu.Unlock()
	if silent {
		return errSilent
	}
	err := r.Static.Watch(ctx, service, update)
	return errors.Join(err, context.Cause(ctx))
}

// be makes the registry silent, or ends that.
func (r *registry) be(silent bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.silent = silent
	if silent {
		for _, end := range r.ends {
			end(errSilent)
		}
		r.ends = nil
	}
}

// instance is an instance of a service.
type instance struct {
	stockpb.UnimplementedStockServer
	addr          string
	rpc           bool
	failing, slow atomic.Bool
	stop          func()
}

func start(rpc bool) (*instance, error) {
	i := &instance{addr: "127.0.0.1:0", rpc: rpc, stop: func() {}}
	return i, i.run()
}

// run serves, at the same address as before if it did before.
func (i *instance) run() error {
	l, err := net.Listen("tcp", i.addr)
	if err != nil {
		return err
	}
	i.addr = l.Addr().String()
	var serving sync.WaitGroup
	if i.rpc {
		s := grpc.NewServer()
		stockpb.RegisterStockServer(s, i)
		serving.Go(func() { _ = s.Serve(l) }) // ends with stop
		i.stop = func() { s.Stop(); serving.Wait() }
		return nil
	}
	s := &http.Server{Handler: i, ReadHeaderTimeout: 5 * time.Second}
	serving.Go(func() { _ = s.Serve(l) })
	i.stop = func() { s.Close(); serving.Wait() }
	return nil
}

// work takes 2 to 10 ms, and half a second if it is slow.
func (i *instance) work(ctx context.Context) error {
	took := 2*time.Millisecond + rand.N(8*time.Millisecond)
	if i.slow.Load() {
		took = 500 * time.Millisecond
	}
	timer := time.NewTimer(took)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	if i.failing.Load() || rand.N(200) == 0 {
		return errors.New("out of order")
	}
	return nil
}

// ServeHTTP answers as orders and payments do.
func (i *instance) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := i.work(r.Context()); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, r.Method, r.URL.Path)
}

// Count implements stockpb.StockServer.
func (i *instance) Count(ctx context.Context, _ *stockpb.CountRequest) (*stockpb.CountReply, error) {
	if err := i.work(ctx); err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return &stockpb.CountReply{Pieces: 1}, nil
}

// traffic makes calls and lets faults come and go until ctx ends.
func (s *shop) traffic(ctx context.Context, mesh *zerohop.Mesh, o options, tell func(string)) error {
	conn, err := grpc.NewClient(grpcmesh.Target("stock"),
		append(grpcmesh.DialOptions(mesh), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		return err
	}
	defer conn.Close()
	client := &http.Client{Transport: httpmesh.NewTransport(mesh, nil), Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	stock := stockpb.NewStockClient(conn)

	var callers sync.WaitGroup
	defer callers.Wait()
	for _, call := range []func(n int){
		func(n int) {
			switch n % 3 {
			case 0:
				send(ctx, client, "POST", "http://orders/v1/orders")
			case 1:
				send(ctx, client, "GET", fmt.Sprintf("http://orders/v1/orders/%d", n))
			default:
				send(ctx, client, "GET", "http://orders/v1/orders")
			}
		},
		func(int) { send(ctx, client, "GET", "http://payments/v1/balance") },
		func(int) { _, _ = stock.Count(ctx, &stockpb.CountRequest{Article: "chair"}) }, // what fails is seen elsewhere
	} {
		callers.Go(func() { steady(ctx, o.rate, call) })
	}
	return s.faults(ctx, mesh, o.step, tell)
}

// steady makes calls at a rate, whether or not those before have ended.
func steady(ctx context.Context, rate int, call func(n int)) {
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	var calls sync.WaitGroup
	defer calls.Wait()
	for n := 0; ; n++ {
		select {
		case <-tick.C:
			calls.Go(func() { call(n) })
		case <-ctx.Done():
			return
		}
	}
}

// send makes a call. What fails is seen elsewhere.
func send(ctx context.Context, client *http.Client, method, url string) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(""))
	if err != nil {
		return
	}
	if resp, err := client.Do(req); err == nil {
		resp.Body.Close()
	}
}

// faults lets one fault come after the other, and begins again.
func (s *shop) faults(ctx context.Context, mesh *zerohop.Mesh, step time.Duration, tell func(string)) error {
	orders, stock, payments := s.services["orders"][0], s.services["stock"][0], s.services["payments"]
	steps := []struct {
		text  string
		begin func()
		end   func() error
	}{
		{"all is well", func() {}, func() error { return nil }},
		{"an instance of orders is killed", func() { orders.stop() }, orders.run},
		{"an instance of stock is slow", func() { stock.slow.Store(true) }, func() error { stock.slow.Store(false); return nil }},
		{"all instances of payments fail", func() {
			for _, p := range payments {
				p.failing.Store(true)
			}
		}, func() error {
			for _, p := range payments {
				p.failing.Store(false)
			}
			return nil
		}},
		{"the registry is silent", func() { s.registry.be(true) }, func() error { s.registry.be(false); return nil }},
	}
	for round := 0; ; round++ {
		for _, f := range steps {
			tell(f.text)
			f.begin()
			select {
			case <-time.After(step):
			case <-ctx.Done():
			}
			if err := f.end(); err != nil {
				return err
			}
			if ctx.Err() != nil {
				return nil
			}
		}
		// The configuration changes, too.
		next := spec
		next.Defaults.Timeout = 5*time.Second + time.Duration(round%2)*time.Second
		if _, err := mesh.Update(next); err != nil {
			return err
		}
	}
}

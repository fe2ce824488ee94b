package gatewayapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/config/gatewayapi"
	"github.com/zerohop/zerohop/config/importing"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/internal/echopb"
)

// arrival is what a backend saw of a request.
type arrival struct {
	Service, Method, Path, Query, Host string
	Header                             http.Header
}

// echoes are backends that tell what arrived.
type echoes struct {
	mu       sync.Mutex
	arrived  []arrival
	signal   chan struct{}
	services discovery.Static
}

// serveHTTP starts a backend for each of the services. A request with the header Stall is never answered, one with Fail gets the
// status in it the first time.
func serveHTTP(t *testing.T, services ...string) *echoes {
	t.Helper()
	e := &echoes{signal: make(chan struct{}, 1000), services: discovery.Static{}}
	failed := map[string]bool{}
	for _, name := range services {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			a := arrival{name, r.Method, r.URL.EscapedPath(), r.URL.RawQuery, r.Host, r.Header}
			e.mu.Lock()
			e.arrived = append(e.arrived, a)
			first := !failed[r.Header.Get("Fail")]
			failed[r.Header.Get("Fail")] = true
			e.mu.Unlock()
			e.signal <- struct{}{}
			switch {
			case r.Header.Get("Stall") != "":
				<-r.Context().Done()
			case r.Header.Get("Fail") != "" && first:
				w.WriteHeader(http.StatusServiceUnavailable)
			default:
				w.Header().Set("Old", "old")
				_ = json.NewEncoder(w).Encode(a)
			}
		}))
		t.Cleanup(s.Close)
		e.services[name] = []discovery.Endpoint{{Addr: s.Listener.Addr().String()}}
	}
	return e
}

// count returns how many requests a service got.
func (e *echoes) count(service string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for _, a := range e.arrived {
		if a.Service == service {
			n++
		}
	}
	return n
}

// await returns once n requests have arrived.
func (e *echoes) await(t *testing.T, n int) {
	t.Helper()
	for range n {
		select {
		case <-e.signal:
		case <-t.Context().Done():
			t.Fatal("too few requests arrived")
		}
	}
}

// imported returns a mesh with what the manifests say.
func imported(t *testing.T, resolver discovery.Resolver, manifests string) *zerohop.Mesh {
	t.Helper()
	spec, _, err := gatewayapi.Import([]byte(manifests), importing.Options{Gateways: map[string]string{"main": "edge"}})
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	var mu sync.Mutex
	random := func() uint64 {
		mu.Lock()
		defer mu.Unlock()
		return r.Uint64()
	}
	mesh, err := zerohop.New(zerohop.Config{Spec: spec, Resolver: resolver, Rand: random})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mesh.Close() })
	return mesh
}

// httpClient returns a client over the mesh.
func httpClient(t *testing.T, mesh *zerohop.Mesh) *http.Client {
	base := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if !strings.HasPrefix(addr, "127.0.0.1:") { // a call that no rule is for
			return nil, fmt.Errorf("%s is no backend", addr)
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	t.Cleanup(base.CloseIdleConnections)
	return &http.Client{Transport: httpmesh.NewTransport(mesh, base)}
}

// rpcEcho tells what arrived by RPC.
type rpcEcho struct {
	echopb.UnimplementedEchoServer
	node string
}

func (e rpcEcho) answer(ctx context.Context, _ *echopb.SayRequest) (*echopb.SayReply, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	return &echopb.SayReply{Node: e.node, Text: strings.Join(md.Get("added"), ",")}, nil
}

func (e rpcEcho) Say(ctx context.Context, r *echopb.SayRequest) (*echopb.SayReply, error) {
	return e.answer(ctx, r)
}

func (e rpcEcho) Order(ctx context.Context, r *echopb.SayRequest) (*echopb.SayReply, error) {
	return e.answer(ctx, r)
}

// serveGRPC starts a backend for each of the services.
func serveGRPC(t *testing.T, services ...string) discovery.Static {
	t.Helper()
	static := discovery.Static{}
	for _, name := range services {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := grpc.NewServer()
		echopb.RegisterEchoServer(s, rpcEcho{node: name})
		var serving sync.WaitGroup
		serving.Go(func() { _ = s.Serve(l) })
		t.Cleanup(func() { s.Stop(); serving.Wait() })
		static[name] = []discovery.Endpoint{{Addr: l.Addr().String()}}
	}
	return static
}

// rpcClient returns a client over the mesh.
func rpcClient(t *testing.T, mesh *zerohop.Mesh, service string) echopb.EchoClient {
	t.Helper()
	conn, err := grpc.NewClient(grpcmesh.Target(service), append(grpcmesh.DialOptions(mesh), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return echopb.NewEchoClient(conn)
}

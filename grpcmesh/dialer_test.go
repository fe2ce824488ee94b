package grpcmesh

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/healthcheck"
	"github.com/zerohop/zerohop/internal/addrtest"
	"github.com/zerohop/zerohop/internal/echopb"
)

// registry is a source that others can write to.
type registry struct{ discovery.Static }

func (registry) Remote() bool { return true }

// call asks the health service of a service over a connection of its own.
func call(t *testing.T, mesh *zerohop.Mesh, service string, opts ...grpc.DialOption) error {
	t.Helper()
	opts = append(append(DialOptions(mesh), grpc.WithTransportCredentials(insecure.NewCredentials())), opts...)
	conn, err := grpc.NewClient(Target(service), opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = healthgrpc.NewHealthClient(conn).Check(t.Context(), &healthgrpc.HealthCheckRequest{})
	return err
}

func TestRefusedAddressesAreNeverDialled(t *testing.T) {
	services := discovery.Static{}
	for i, addr := range addrtest.Refused {
		services[fmt.Sprint("s", i)] = []discovery.Endpoint{{Addr: addr}}
	}
	mesh := remoteMesh(t, discovery.AddressPolicy{}, services)
	var dials atomic.Int32
	hook := grpc.WithContextDialer(func(_ context.Context, addr string) (net.Conn, error) {
		dials.Add(1)
		return nil, fmt.Errorf("dial of %q", addr)
	})
	for i, addr := range addrtest.Refused {
		err := call(t, mesh, fmt.Sprint("s", i), hook)
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "discovery: ") {
			t.Errorf("call with %q = %v, want no endpoints and why", addr, err)
		}
	}
	if got := dials.Load(); got != 0 {
		t.Errorf("%d dials, want 0", got)
	}
}

func remoteMesh(t *testing.T, policy discovery.AddressPolicy, services discovery.Static) *zerohop.Mesh {
	t.Helper()
	m, err := zerohop.New(zerohop.Config{Resolver: registry{services}, Addresses: policy})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func TestNamesThatLeadToRefusedAddressesAreNotConnectedTo(t *testing.T) {
	system := net.DefaultResolver
	net.DefaultResolver = addrtest.Resolver(func() netip.Addr { return netip.MustParseAddr("127.0.0.1") })
	defer func() { net.DefaultResolver = system }()
	addr := loopback(t, func(s *grpc.Server) { healthgrpc.RegisterHealthServer(s, health.NewServer()) })
	_, port, _ := net.SplitHostPort(addr)
	name := net.JoinHostPort("rebound.example.com", port)
	services := discovery.Static{"orders": {{Addr: name}}}

	mesh := remoteMesh(t, discovery.AddressPolicy{}, services)
	err := call(t, mesh, "orders")
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "AllowLoopback in the address policy") {
		t.Errorf("call = %v, want how to allow the address", err)
	}
	own := net.Dialer{ControlContext: mesh.DialControl()}
	err = call(t, mesh, "orders", grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		return own.DialContext(ctx, "tcp", addr)
	}))
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "AllowLoopback in the address policy") {
		t.Errorf("call with a dialer of its own = %v, want how to allow the address", err)
	}
	p := healthcheck.Probe{Service: "orders", Addr: name, DialControl: mesh.DialControl()}
	if err := (HealthChecker{}).Check(t.Context(), p); err == nil || !strings.Contains(err.Error(), "AllowLoopback") {
		t.Errorf("Check() = %v, want how to allow the address", err)
	}

	if err := call(t, remoteMesh(t, discovery.AddressPolicy{AllowLoopback: true}, services), "orders"); err != nil {
		t.Errorf("call with AllowLoopback = %v", err)
	}
	p.DialControl = nil
	if err := (HealthChecker{}).Check(t.Context(), p); err != nil {
		t.Errorf("Check() without a policy = %v", err)
	}
}

// Options of a mesh with a remote source serve targets that are not on it, too.
func TestSocketsAreConnectedToBesideARemoteSource(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s, done := grpc.NewServer(), make(chan struct{})
	healthgrpc.RegisterHealthServer(s, health.NewServer())
	go func() {
		defer close(done)
		_ = s.Serve(l) // it ends with Stop
	}()
	defer func() { s.Stop(); <-done }()
	mesh := remoteMesh(t, discovery.AddressPolicy{}, nil)
	conn, err := grpc.NewClient("unix://"+path, append(DialOptions(mesh), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := healthgrpc.NewHealthClient(conn).Check(t.Context(), &healthgrpc.HealthCheckRequest{}); err != nil {
		t.Errorf("call over a socket = %v", err)
	}
}

func TestClientDialsByItsDialContext(t *testing.T) {
	n := newNetwork()
	n.serve(t, "10.0.0.1:80")
	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{"orders": {{Addr: "10.0.0.1:80"}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer mesh.Close()
	var dials atomic.Int32
	client := Client{Mesh: mesh, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if network != "tcp" || addr != "10.0.0.1:80" {
			t.Errorf("DialContext(%q, %q)", network, addr)
		}
		dials.Add(1)
		return n.dial(ctx, addr)
	}}
	conn, err := grpc.NewClient(Target("orders"), append(client.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := echopb.NewEchoClient(conn).Say(t.Context(), &echopb.SayRequest{Text: "x"}); err != nil || dials.Load() != 1 {
		t.Errorf("Say() = %v after %d dials, want 1", err, dials.Load())
	}
}

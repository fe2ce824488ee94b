package grpcmesh

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/healthcheck"
	"github.com/zerohop/zerohop/internal/echopb"
)

// loopback starts a real server that serves what register adds, on a real socket.
func loopback(t *testing.T, register func(*grpc.Server), opts ...grpc.ServerOption) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, done := grpc.NewServer(append(opts, grpc.WaitForHandlers(true))...), make(chan struct{})
	register(s)
	go func() {
		defer close(done)
		_ = s.Serve(l) // it ends with Stop
	}()
	t.Cleanup(func() {
		s.Stop()
		<-done
	})
	return l.Addr().String()
}

// broken is a health service that fails in the way it is told.
type broken struct {
	healthgrpc.UnimplementedHealthServer

	err error // nil means that it never answers
}

func (b broken) Check(ctx context.Context, _ *healthgrpc.HealthCheckRequest) (*healthgrpc.HealthCheckResponse, error) {
	if b.err != nil {
		return nil, b.err
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestHealthCheckByGRPC(t *testing.T) {
	h := health.NewServer()
	h.SetServingStatus("shop.Orders", healthgrpc.HealthCheckResponse_SERVING)
	h.SetServingStatus("shop.Billing", healthgrpc.HealthCheckResponse_NOT_SERVING)
	serving := loopback(t, func(s *grpc.Server) { healthgrpc.RegisterHealthServer(s, h) })
	fails := func(err error) string {
		return loopback(t, func(s *grpc.Server) { healthgrpc.RegisterHealthServer(s, broken{err: err}) })
	}
	mute, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, as for a process that is stopped
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, c := range []struct {
		name, addr, service string
		timeout             time.Duration
		want                string // in the error, empty if there is none
	}{
		{"the server", serving, "", time.Minute, ""},
		{"a service", serving, "shop.Orders", time.Minute, ""},
		{"a service that is not served", serving, "shop.Billing", time.Minute, "answered NOT_SERVING"},
		{"a service that is not known", serving, "shop.Nothing", time.Minute, "NotFound"},
		{"a server without a health service", loopback(t, func(*grpc.Server) {}), "", time.Minute, ""},
		{"a server that wants to know who asks", fails(status.Error(codes.Unauthenticated, "who?")), "", time.Minute, "Unauthenticated"},
		{"a service that never answers", fails(nil), "", 100 * time.Millisecond, "DeadlineExceeded"},
		{"a server that never answers", mute.Addr().String(), "", 100 * time.Millisecond, "DeadlineExceeded"},
		{"a closed port", closed.Addr().String(), "", time.Minute, "connection refused"},
		{"no address", "", "", time.Minute, "health check: "},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), c.timeout)
		err := HealthChecker{}.Check(ctx, healthcheck.Probe{Service: "orders", Addr: c.addr, GRPCService: c.service})
		cancel()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("check of %s = %v, want %q", c.name, err, c.want)
		}
	}
}

func TestHealthCheckByGRPCVerifiesTheName(t *testing.T) {
	cert, pool := certificate(t, "orders")
	addr := loopback(t, func(s *grpc.Server) { healthgrpc.RegisterHealthServer(s, health.NewServer()) }, grpc.Creds(credentials.NewServerTLSFromCert(&cert)))
	for _, c := range []struct {
		service, host, override string
		good                    bool
	}{
		{"orders", "", "", true}, {"billing", "", "", false}, {"billing", "orders", "", true}, {"orders", "billing", "", false},
		{"billing", "", "orders", true}, {"orders", "", "billing", false}, {"127.0.0.1", "", "", false},
	} {
		h := HealthChecker{Credentials: credentials.NewTLS(&tls.Config{RootCAs: pool, ServerName: c.override})}
		err := h.Check(t.Context(), healthcheck.Probe{Service: c.service, Host: c.host, Addr: addr})
		if (err == nil) != c.good || err != nil && !strings.Contains(err.Error(), "certificate") {
			t.Errorf("check of %q, host %q, credentials for %q = %v, want it to pass: %v", c.service, c.host, c.override, err, c.good)
		}
	}
}

// A check takes calls of every kind off an endpoint, among them those on a connection of gRPC that nothing is wrong with.
func TestGRPCCallsAvoidServersWhoseChecksFail(t *testing.T) {
	var eps []discovery.Endpoint
	var healths []*health.Server
	for range 3 {
		h := health.NewServer()
		var name string
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		name = l.Addr().String()
		s, done := grpc.NewServer(grpc.WaitForHandlers(true)), make(chan struct{})
		echopb.RegisterEchoServer(s, &server{name: name})
		healthgrpc.RegisterHealthServer(s, h)
		go func() {
			defer close(done)
			_ = s.Serve(l) // it ends with Stop
		}()
		t.Cleanup(func() {
			s.Stop()
			<-done
		})
		eps, healths = append(eps, discovery.Endpoint{Addr: name}), append(healths, h)
	}
	events := make(chan zerohop.HealthEvent, 10)
	mesh, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"orders": eps},
		Checkers: map[string]healthcheck.Checker{"grpc": HealthChecker{}},
		Hooks:    zerohop.Hooks{Health: func(_ string, ev zerohop.HealthEvent) { events <- ev }},
		Spec: zerohop.Spec{Services: map[string]zerohop.Policy{"orders": {
			Balance: "random", SlowStart: zerohop.SlowStart{Mode: zerohop.Off}, Backup: zerohop.Backup{Mode: zerohop.Off},
			HealthCheck: zerohop.HealthCheck{Mode: zerohop.On, Protocol: "grpc", GRPCService: "shop.Orders", Interval: 50 * time.Millisecond, Timeout: time.Minute},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer mesh.Close()
	for _, ep := range eps { // no server knows the service yet
		if ev := <-events; ev.Passing || status.Code(errors.Unwrap(ev.Err)) != codes.NotFound {
			t.Errorf("event of %s = %+v, want NotFound", ep.Addr, ev)
		}
	}
	for _, h := range healths {
		h.SetServingStatus("shop.Orders", healthgrpc.HealthCheckResponse_SERVING)
	}
	for range eps {
		if ev := <-events; !ev.Passing {
			t.Errorf("event = %+v, want them well", ev)
		}
	}
	conn, err := grpc.NewClient(Target("orders"), append(DialOptions(mesh), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	say := func(until int) map[string]int {
		by := map[string]int{}
		for range 10_000 {
			resp, err := echopb.NewEchoClient(conn).Say(t.Context(), &echopb.SayRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if by[resp.GetNode()]++; len(by) == until && by[resp.GetNode()] > 30 {
				break
			}
		}
		return by
	}
	if got := say(3); len(got) != 3 {
		t.Errorf("calls while all are well = %v, want some on each", got)
	}
	healths[1].SetServingStatus("shop.Orders", healthgrpc.HealthCheckResponse_NOT_SERVING)
	if ev := <-events; ev.Endpoint.Addr != eps[1].Addr || ev.Passing || !strings.Contains(ev.Err.Error(), "NOT_SERVING") {
		t.Errorf("event = %+v, want the second not serving", ev)
	}
	if got := say(2); got[eps[1].Addr] != 0 {
		t.Errorf("calls while the second is not serving = %v, want none on it", got)
	}
	healths[1].SetServingStatus("shop.Orders", healthgrpc.HealthCheckResponse_SERVING)
	if ev := <-events; !ev.Passing {
		t.Errorf("event = %+v, want the second well", ev)
	}
	if got := say(3); got[eps[1].Addr] == 0 {
		t.Errorf("calls when the second is back = %v, want some on it", got)
	}
}

//go:build linux

package loader

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/ebpfaccel"
	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/healthcheck"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/internal/echopb"
)

// passed counts what went past TCP while f ran, and fails unless that is most of all bytes of calls.
func passed(t *testing.T, o *accelObjects, calls int, f func()) {
	t.Helper()
	before := counters(t, o)
	f()
	after := counters(t, o)
	redirected, messages := after.RedirectedBytes-before.RedirectedBytes, after.RedirectedMessages-before.RedirectedMessages
	t.Logf("%d calls: %d messages, %d bytes past TCP, %d over it", calls, messages, redirected, after.TCPBytes-before.TCPBytes)
	if messages < uint64(calls) || redirected == 0 {
		t.Errorf("of %d calls %d messages went past TCP: %+v", calls, messages, after)
	}
}

// Retries, bodies that are streamed and health checks are as over TCP.
func TestHTTPMeshOverAcceleratedConnections(t *testing.T) {
	o := load(t, defaults)
	var checks, broken atomic.Int64
	var eps []discovery.Endpoint
	for range 2 {
		mux := http.NewServeMux()
		mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) { checks.Add(1) })
		mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Attempt") == "broken" && broken.Add(1)%2 == 1 {
				panic(http.ErrAbortHandler) // the connection ends, and another attempt is made
			}
			http.NewResponseController(w).EnableFullDuplex()
			io.Copy(w, r.Body)
		})
		s := httptest.NewUnstartedServer(mux)
		s.Listener.Close()
		s.Listener = listen(t, "127.0.0.1:0")
		s.Start()
		t.Cleanup(s.Close)
		eps = append(eps, discovery.Endpoint{Addr: s.Listener.Addr().String()})
	}
	base := &http.Transport{DialContext: ebpfaccel.DialContext}
	mesh, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"orders": eps},
		Checkers: map[string]healthcheck.Checker{"http": httpmesh.NewHealthChecker(base)},
		Spec: zerohop.Spec{Services: map[string]zerohop.Policy{"orders": {
			HealthCheck: zerohop.HealthCheck{
				Mode: zerohop.On, Protocol: "http", Path: "/health", Interval: 100 * time.Millisecond, Timeout: patience,
			},
			Backup: zerohop.Backup{Mode: zerohop.Off},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer mesh.Close()
	tr := httpmesh.NewTransport(mesh, base)
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr, Timeout: patience}

	const calls = 300
	passed(t, o, 2*calls, func() {
		for i := range calls {
			s := stream{seed: uint64(i)}
			body := s.fill(make([]byte, 1+i*37))
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://orders/", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if i%10 == 0 {
				req.Header.Set("Attempt", "broken")
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatalf("call %d: %v", i, err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || !bytes.Equal(got, body) {
				t.Fatalf("call %d: %d bytes came back of %d, %v", i, len(got), len(body), err)
			}
		}
	})
	if broken.Load() < 2*calls/10 {
		t.Errorf("%d attempts of calls whose first attempt breaks, want two each", broken.Load())
	}
	for checks.Load() < 4 {
		if t.Context().Err() != nil {
			t.Fatal("no health checks")
		}
		time.Sleep(time.Millisecond)
	}

	// A body that is streamed both ways at a time becomes a stream, and goes on over TCP.
	in, out := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://orders/", in)
	if err != nil {
		t.Fatal(err)
	}
	const total = 20 << 20
	sent := sha256.New()
	go func() {
		s := stream{seed: 9}
		b := make([]byte, 32<<10)
		for s.at < total {
			sent.Write(s.fill(b))
			if _, err := out.Write(b); err != nil {
				break
			}
		}
		out.Close()
	}()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	received := sha256.New()
	if n, err := io.Copy(received, resp.Body); err != nil || n != total || !bytes.Equal(sent.Sum(nil), received.Sum(nil)) {
		t.Errorf("streamed %d bytes of %d, %v", n, total, err)
	}
}

// meshEcho is an instance of the echo service that fails its first calls.
type meshEcho struct {
	echopb.UnimplementedEchoServer
	failures *atomic.Int64
}

func (e meshEcho) Say(_ context.Context, r *echopb.SayRequest) (*echopb.SayReply, error) {
	if e.failures.Add(-1) >= 0 {
		return nil, status.Error(codes.Unavailable, "not yet")
	}
	return &echopb.SayReply{Text: r.Text}, nil
}

func (e meshEcho) Chat(s grpc.BidiStreamingServer[echopb.SayRequest, echopb.SayReply]) error {
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := s.Send(&echopb.SayReply{Text: r.Text}); err != nil {
			return err
		}
	}
}

func TestGRPCMeshOverAcceleratedConnections(t *testing.T) {
	o := load(t, defaults)
	var failures atomic.Int64
	var eps []discovery.Endpoint
	for range 2 {
		l := listen(t, "127.0.0.1:0")
		s := grpc.NewServer()
		echopb.RegisterEchoServer(s, meshEcho{failures: &failures})
		healthgrpc.RegisterHealthServer(s, health.NewServer())
		var serving sync.WaitGroup
		serving.Go(func() { s.Serve(l) })
		t.Cleanup(func() { s.Stop(); serving.Wait() })
		eps = append(eps, discovery.Endpoint{Addr: l.Addr().String()})
	}
	var checks atomic.Int64
	mesh, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"orders": eps},
		Checkers: map[string]healthcheck.Checker{"grpc": counting{grpcmesh.HealthChecker{}, &checks}},
		Spec: zerohop.Spec{Services: map[string]zerohop.Policy{"orders": {
			HealthCheck: zerohop.HealthCheck{Mode: zerohop.On, Protocol: "grpc", Interval: 100 * time.Millisecond, Timeout: patience},
			Backup:      zerohop.Backup{Mode: zerohop.Off},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer mesh.Close()
	conn, err := grpc.NewClient(grpcmesh.Target("orders"), append(
		grpcmesh.Client{Mesh: mesh, DialContext: ebpfaccel.DialContext}.DialOptions(),
		grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := echopb.NewEchoClient(conn)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	const calls = 300
	text := func(i int) string { return fmt.Sprintf("%0*d", 1+i*29, i) }
	passed(t, o, 2*calls, func() {
		for i := range calls {
			if i%10 == 0 {
				failures.Store(1) // another attempt is made
			}
			reply, err := client.Say(ctx, &echopb.SayRequest{Text: text(i)})
			if err != nil || reply.Text != text(i) {
				t.Fatalf("call %d: %v", i, err)
			}
		}
	})
	if failures.Load() >= 0 {
		t.Error("no attempt was repeated")
	}

	passed(t, o, calls, func() {
		chat, err := client.Chat(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for i := range calls {
			if err := chat.Send(&echopb.SayRequest{Text: text(i)}); err != nil {
				t.Fatal(err)
			}
			if reply, err := chat.Recv(); err != nil || reply.Text != text(i) {
				t.Fatalf("message %d: %v", i, err)
			}
		}
		if err := chat.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := chat.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("end of the stream: %v", err)
		}
	})
	for checks.Load() < 4 {
		if ctx.Err() != nil {
			t.Fatal("no health checks")
		}
		time.Sleep(time.Millisecond)
	}
}

// counting counts the checks that are passed.
type counting struct {
	healthcheck.Checker
	passed *atomic.Int64
}

func (c counting) Check(ctx context.Context, p healthcheck.Probe) error {
	err := c.Checker.Check(ctx, p)
	if err == nil {
		c.passed.Add(1)
	}
	return err
}

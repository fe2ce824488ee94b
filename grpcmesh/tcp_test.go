package grpcmesh

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/internal/porttest"
)

// TestServersOnTCP covers what memory does not: ports that refuse, and servers that come up on them later.
func TestServersOnTCP(t *testing.T) {
	var addrs []string
	for range 3 {
		l, err := porttest.Listen()
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, l.Addr().String())
		l.Close()
	}
	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{"orders": endpoints(addrs...)}})
	if err != nil {
		t.Fatal(err)
	}
	defer mesh.Close()
	conn, err := grpc.NewClient(Target("orders"), append(DialOptions(mesh), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := echopb.NewEchoClient(conn)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := client.Say(ctx, &echopb.SayRequest{}); status.Code(err) != codes.Unavailable {
		t.Fatalf("Say() = %v, want UNAVAILABLE", err)
	}
	start := time.Now()
	for _, addr := range addrs {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		s := &server{name: addr}
		s.start(l)
		defer s.stop()
	}
	if _, err := client.Say(ctx, &echopb.SayRequest{}, grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("the first answer came %v after the servers, want at most 2s", took)
	}
	for seen := map[string]bool{}; len(seen) < len(addrs); {
		r, err := client.Say(ctx, &echopb.SayRequest{})
		if err != nil {
			t.Fatalf("Say() after %v = %v", time.Since(start), err)
		}
		seen[r.Node] = true
	}
}

package grpcmesh

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/echopb"
)

func TestRPCsGoToAServerInTheProcess(t *testing.T) {
	l := bufconn.Listen(64 << 10)
	s := &server{name: "here"}
	s.start(l)
	t.Cleanup(s.stop)
	var over [3]atomic.Int64
	m, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"orders": {{Addr: "orders.invalid:1"}}},
		Hooks: zerohop.Hooks{AttemptDone: func(_ context.Context, _ zerohop.CallInfo, _ zerohop.AttemptInfo, r zerohop.AttemptResult) {
			over[r.Network].Add(1)
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	c := Client{Mesh: m, InProcess: map[string]func(context.Context) (net.Conn, error){"orders.invalid:1": l.DialContext}}
	conn, err := grpc.NewClient(Target("orders"), append(c.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	for range 3 {
		if _, err := echopb.NewEchoClient(conn).Say(t.Context(), &echopb.SayRequest{}); err != nil {
			t.Fatalf("Say() = %v", err)
		}
	}
	if got := over[zerohop.NetworkInProcess].Load(); got != 3 {
		t.Errorf("%d attempts in the process, want 3", got)
	}
}

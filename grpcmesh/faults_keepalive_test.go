package grpcmesh

import (
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
)

// strict is a server that breaks connections on which it is pinged more often than every five minutes.
var strict = grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Minute, PermitWithoutStream: true})

// patrol makes a call about every minute for two hours, through a mesh or, to compare, without one, and returns how often each
// of three strict servers was connected to.
func patrol(t *testing.T, mesh bool, opts ...grpc.DialOption) (dialled map[string]int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 0, zerohop.Config{}, opts...)
		var addrs []string
		var state resolver.State
		for i := range 3 {
			s := b.serve(t, fmt.Sprintf("10.0.0.%d:80", i+1), strict)
			addrs = append(addrs, s.name)
			state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: s.name}}})
		}
		b.source.Set("orders", endpoints(addrs...)...)
		if !mesh {
			r := manual.NewBuilderWithScheme("plain")
			r.InitialState(state)
			conn := b.dialTo(t, "plain:///orders", append(opts, grpc.WithResolvers(r), grpc.WithDisableRetry(),
				grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))...)
			b.client = echopb.NewEchoClient(conn)
		}
		for round := range 120 {
			if round == 60 && mesh { // endpoints that come back are to be pinged no more often
				b.source.Set("orders", endpoints(addrs[1:]...)...)
				synctest.Wait()
				b.source.Set("orders", endpoints(addrs...)...)
			}
			if _, err := b.client.Say(t.Context(), &echopb.SayRequest{Text: "hello"}, grpc.WaitForReady(true)); err != nil {
				t.Errorf("Say() in round %d = %v", round, err)
			}
			time.Sleep(61700 * time.Millisecond) // never at the moment of a ping
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		dialled = maps.Clone(b.dialled)
	})
	return dialled
}

func TestStrictServersAreNotPinged(t *testing.T) {
	for addr, got := range patrol(t, true) {
		want := 1
		if addr == "10.0.0.1:80" {
			want = 2 // it left and came back
		}
		if got != want {
			t.Errorf("%s was connected to %d times in two hours, want %d", addr, got, want)
		}
	}
}

// A server that is pinged too often says ENHANCE_YOUR_CALM, and gRPC pings half as often from then on: five times until
// ten seconds have become more than five minutes.
func TestPingsThatUsersWantCauseNoStorm(t *testing.T) {
	pings := grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, PermitWithoutStream: true})
	got, plain := patrol(t, true, pings), patrol(t, false, pings)
	t.Logf("connections in two hours: %v, and %v without a mesh", got, plain)
	for addr := range plain {
		limit := 1 + 5
		if addr == "10.0.0.1:80" {
			limit++ // it left and came back
		}
		if n := plain[addr]; n < 2 || n > limit {
			t.Errorf("%s was connected to %d times without a mesh, want 2 to %d", addr, n, limit)
		}
		if n := got[addr]; n < 2 || n > limit {
			t.Errorf("%s was connected to %d times, want 2 to %d", addr, n, limit)
		}
	}
}

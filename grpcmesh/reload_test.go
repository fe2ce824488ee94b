package grpcmesh

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/routing"
)

// led returns the spec number n, by which RPCs to "shop" go to "a", to "b" or to both.
func led(n int) zerohop.Spec {
	rule := routing.Rule{Name: fmt.Sprint("shop-", n%3), Match: routing.Match{Service: "shop"}, Policy: "p"}
	for i, name := range []string{"a", "b"} {
		if n%3 == i || n%3 == 2 {
			rule.Backends = append(rule.Backends, routing.Backend{Service: name, Weight: uint32(n%5 + 1)})
		}
	}
	return zerohop.Spec{
		Routes: []routing.Rule{rule}, Policies: map[string]zerohop.Policy{"p": {Idempotent: zerohop.On, Retry: zerohop.Retry{Attempts: 2 + n%3}}},
	}
}

func TestRPCsGoOnThroughThousandReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		set := discovery.Static{}
		for _, name := range []string{"a", "b"} {
			for i := range 2 {
				addr := fmt.Sprintf("10.0.0.%d:80", len(set)*10+i)
				n.serve(t, addr)
				set[name] = append(set[name], discovery.Endpoint{Addr: addr})
			}
		}
		var mu sync.Mutex
		calls := map[string]int{}
		mesh, err := zerohop.New(zerohop.Config{Resolver: set, Spec: led(0), Hooks: zerohop.Hooks{
			CallDone: func(_ context.Context, call zerohop.CallInfo, _ zerohop.CallResult) {
				mu.Lock()
				defer mu.Unlock()
				calls[call.Route+" "+call.Service]++
			},
		}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { mesh.Close() })
		conn := n.dialTo(t, Target("shop"), DialOptions(mesh)...)
		client := echopb.NewEchoClient(conn)
		ctx, cancel := context.WithCancel(t.Context())
		var workers sync.WaitGroup
		for range 5 {
			workers.Go(func() {
				for ctx.Err() == nil {
					if _, err := client.Say(t.Context(), &echopb.SayRequest{Text: "x"}); err != nil {
						t.Errorf("an RPC failed: %v", err)
					}
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
		for i := range 1000 {
			time.Sleep(6 * time.Millisecond)
			spec := led(i)
			bad := i%10 < 6
			if bad {
				spec.Routes[0].Policy = "none"
			} else if i%10 < 8 {
				spec, _ = mesh.Spec()
			}
			if _, err := mesh.Update(spec); (err != nil) != bad {
				t.Errorf("reload %d: %v", i, err)
			}
		}
		cancel()
		workers.Wait()
		for key, count := range calls {
			switch key {
			case "shop-0 a", "shop-1 b", "shop-2 a", "shop-2 b":
			default:
				t.Errorf("%d RPCs by %s", count, key)
			}
		}
		if len(calls) != 4 {
			t.Errorf("RPCs by %v, want all that there are", calls)
		}
		for addr, dialled := range n.dialled {
			if dialled != 1 {
				t.Errorf("%d connections to %s, want 1", dialled, addr)
			}
		}
		if _, err := mesh.Update(led(0)); err != nil { // only a
			t.Fatal(err)
		}
		time.Sleep(drainTime + time.Second)
		synctest.Wait()
		t.Logf("%v, %v", calls, n.dialled)
	})
}

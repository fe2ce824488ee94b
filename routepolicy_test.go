package zerohop

import (
	"context"
	"fmt"
	"github.com/zerohop/zerohop/discovery"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// underRoute returns a spec with a route of that policy for the calls in a lane, which Do can set.
func underRoute(p Policy) Spec {
	return Spec{
		Policies: map[string]Policy{"own": p},
		Routes:   []routing.Rule{{Name: "own", Match: routing.Match{Service: "orders", Lane: "own"}, Policy: "own"}},
	}
}

func TestRouteBalancesItsCallsItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := underRoute(Policy{Balance: "rendezvous", Hashing: Hashing{Bound: -1}})
		spec.Defaults.Balance = "weighted-round-robin"
		m := open(t, Config{Resolver: orders(4), Spec: spec})
		spread := func(ctx context.Context) map[string]int {
			seen := map[string]int{}
			for range 100 {
				addr, err := Do(WithCall(ctx, CallOptions{HashKey: "alice"}), m, "orders", func(_ context.Context, n *loadbalance.Node) (string, error) {
					return n.Addr(), nil
				})
				if err != nil {
					t.Fatal(err)
				}
				seen[addr]++
			}
			return seen
		}
		if got := spread(WithLane(t.Context(), "own")); len(got) != 1 {
			t.Errorf("calls with one key under a route that hashes went to %v, want one endpoint", got)
		}
		for addr, n := range spread(t.Context()) {
			if n != 25 {
				t.Errorf("%d of 100 calls under no route went to %s, want 25", n, addr)
			}
		}
		before := spread(WithLane(t.Context(), "own"))
		spec.Defaults.Retry.Attempts = 2
		if _, err := m.Update(spec); err != nil {
			t.Fatal(err)
		}
		for addr := range spread(WithLane(t.Context(), "own")) {
			if before[addr] == 0 {
				t.Errorf("after an update the key goes to %s", addr)
			}
		}
	})
}

// What calls of a route waste is theirs: others have a budget left.
func TestRouteHasABudgetOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := underRoute(Policy{Budget: Budget{Tokens: 2}})
		spec.Defaults = Policy{Idempotent: On, Backup: Backup{Mode: Off}, Outlier: Outlier{Mode: Off}}
		m := open(t, Config{Resolver: orders(4), Spec: spec})
		attempts := func(ctx context.Context, calls int) (n int) {
			for range calls {
				_, _ = Do(ctx, m, "orders", func(context.Context, *loadbalance.Node) (int, error) {
					n++
					return 0, &ClassifiedError{Verdict: resilience.Verdict{Outcome: resilience.Failure, Retry: true}, Err: errDown}
				})
			}
			return n
		}
		wasted := attempts(WithLane(t.Context(), "own"), 50)
		if wasted > 55 {
			t.Errorf("50 calls under the route made %d attempts, want few retries from a budget of 2", wasted)
		}
		if got := attempts(t.Context(), 1); got != 3 {
			t.Errorf("a call under no route made %d attempts, want 3 from a budget that the route has not touched", got)
		}
		spec.Defaults.Timeout = 1 << 40
		if _, err := m.Update(spec); err != nil {
			t.Fatal(err)
		}
		if got := attempts(WithLane(t.Context(), "own"), 5); got > 5 {
			t.Errorf("after an update 5 calls under the route made %d attempts, want none from an empty budget", got)
		}
	})
}

func TestRoutesSeeTheKeyAndTheTimeOfACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noon := time.Now().Add(time.Hour)
		m := open(t, Config{Resolver: discovery.Static{"old": endpoints(1), "new": endpoints(2)[1:]}, Spec: Spec{Routes: []routing.Rule{
			{Match: routing.Match{Service: "launch", Before: noon}, Backends: []routing.Backend{{Service: "old"}}},
			{Match: routing.Match{Service: "launch"}, Backends: []routing.Backend{{Service: "new"}}},
			{Match: routing.Match{Service: "split"}, Split: routing.Split{Name: "users"}, Backends: []routing.Backend{{Service: "old", Weight: 1}, {Service: "new", Weight: 1}}},
		}}})
		where := func(ctx context.Context, service string) string {
			addr, err := Do(ctx, m, service, func(_ context.Context, n *loadbalance.Node) (string, error) { return n.Addr(), nil })
			if err != nil {
				t.Fatal(err)
			}
			return addr
		}
		before := where(t.Context(), "launch")
		time.Sleep(time.Hour)
		if after := where(t.Context(), "launch"); before != "10.0.0.1:80" || after != "10.0.0.2:80" {
			t.Errorf("calls went to %s before the time and to %s after it", before, after)
		}
		sides := map[string]int{}
		for user := range 40 {
			ctx := WithCall(t.Context(), CallOptions{HashKey: fmt.Sprint(user)})
			side := where(ctx, "split")
			sides[side]++
			for range 10 {
				if again := where(ctx, "split"); again != side {
					t.Fatalf("user %d is on the sides of %s and %s", user, side, again)
				}
			}
		}
		if len(sides) != 2 {
			t.Errorf("40 users are on the sides %v, want both", sides)
		}
	})
}

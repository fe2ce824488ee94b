package zerohop

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/discoverytest"
	"github.com/zerohop/zerohop/loadbalance"
)

// visits makes a call every millisecond for so long and returns how many attempts each address got, and how many calls
// failed. It must run in a bubble.
func visits(t *testing.T, m *Mesh, d time.Duration, broken func(addr string) bool) (by map[string]int, attempts, failed int) {
	t.Helper()
	by = map[string]int{}
	ctx := WithCall(t.Context(), CallOptions{Idempotent: On})
	for start := time.Now(); time.Since(start) < d; {
		_, err := Do(ctx, m, "orders", func(_ context.Context, n *loadbalance.Node) (int, error) {
			by[n.Addr()]++
			attempts++
			if broken(n.Addr()) {
				return 0, errors.New("broken")
			}
			return 0, nil
		})
		if err != nil {
			failed++
			if e := failure(t, err); len(e.Attempts) == 0 {
				t.Fatalf("call failed without an attempt: %v", err)
			}
		}
		time.Sleep(time.Millisecond)
	}
	return by, attempts, failed
}

// Random looks at nothing that was learned, so that only ejection keeps calls away.
func TestEndpointThatFailsIsEjected(t *testing.T) {
	for _, c := range []struct {
		outlier     Outlier
		least, most float64
	}{
		{Outlier{}, 0, 0.01},
		{Outlier{Mode: Off}, 0.08, 0.12},
		{Outlier{Consecutive: -1, FailureRatio: -1}, 0.08, 0.12},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := open(t, Config{Resolver: orders(10), Spec: Spec{Defaults: Policy{Balance: "random", Outlier: c.outlier}}})
			bad := endpoints(1)[0].Addr
			broken := func(addr string) bool { return addr == bad }
			visits(t, m, 2*time.Second, broken)
			by, all, failed := visits(t, m, time.Minute, broken)
			share := float64(by[bad]) / float64(all)
			t.Logf("%+v: share = %.4f", c.outlier, share)
			if share < c.least || share > c.most {
				t.Errorf("%+v: share of the failing endpoint after 2 s = %.4f, want between %v and %v", c.outlier, share, c.least, c.most)
			}
			if c.outlier.Mode == Inherit && c.least == 0 && failed > 0 {
				t.Errorf("%d calls failed, want none", failed)
			}
		})
	}
}

func TestServiceThatFailsIsUsedUntilItRecovers(t *testing.T) {
	for _, n := range []int{1, 2, 3, 10} {
		synctest.Test(t, func(t *testing.T) {
			m := open(t, Config{Resolver: orders(n)})
			down := true
			broken := func(string) bool { return down }
			by, _, _ := visits(t, m, 30*time.Second, broken)
			if len(by) != n {
				t.Errorf("%d endpoints that fail: attempts on %d of them, want on all", n, len(by))
			}
			down = false
			if _, _, failed := visits(t, m, 2*time.Second, broken); failed > 0 {
				t.Errorf("%d endpoints: %d calls failed after the service recovered", n, failed)
			}
			by, all, _ := visits(t, m, 5*time.Second, broken)
			for _, ep := range endpoints(n) {
				if share := float64(by[ep.Addr]) / float64(all) * float64(n); share < 0.5 {
					t.Errorf("share of %s of %d from 2 s after the service recovered = %.2f of its part", ep.Addr, n, share)
				}
			}
		})
	}
}

func TestNewEndpointStartsSlowly(t *testing.T) {
	for _, c := range []struct {
		slow        SlowStart
		least, most float64
	}{
		{SlowStart{}, 0.005, 0.04}, // of which a fifth would be its part
		{SlowStart{Mode: Off}, 0.15, 0.25},
	} {
		synctest.Test(t, func(t *testing.T) {
			var source discoverytest.Memory
			source.Set("orders", endpoints(4)...)
			m := open(t, Config{Resolver: &source, Spec: Spec{Defaults: Policy{Balance: "random", SlowStart: c.slow}}})
			fine := func(string) bool { return false }
			visits(t, m, time.Second, fine)
			source.Set("orders", endpoints(5)...)
			synctest.Wait()
			by, all, _ := visits(t, m, time.Second, fine)
			if share := float64(by[endpoints(5)[4].Addr]) / float64(all); share < c.least || share > c.most {
				t.Errorf("%+v: share of a new endpoint in its first second = %.3f, want between %v and %v", c.slow, share, c.least, c.most)
			}
		})
	}
}

func TestCallsStayInTheZoneOfTheMesh(t *testing.T) {
	eps := endpoints(9)
	near := map[string]bool{}
	for i := range eps {
		eps[i].Zone = []string{"a", "b", "c"}[i%3]
		near[eps[i].Addr] = eps[i].Zone == "b"
	}
	for _, c := range []struct {
		zone     string
		locality Locality
		want     float64
	}{
		{"b", Locality{}, 1},
		{"b", Locality{Mode: Off}, 1. / 3},
		{"", Locality{}, 1. / 3},
		{"elsewhere", Locality{}, 1. / 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := open(t, Config{Resolver: discovery.Static{"orders": eps}, Zone: c.zone, Spec: Spec{Defaults: Policy{Balance: "weighted-round-robin", Locality: c.locality}}})
			by, all, _ := visits(t, m, time.Second, func(string) bool { return false })
			in := 0
			for addr, n := range by {
				if near[addr] {
					in += n
				}
			}
			if got := float64(in) / float64(all); got < c.want-0.01 || got > c.want+0.01 {
				t.Errorf("zone %q, %+v: part of the calls in zone b = %.3f, want %.3f", c.zone, c.locality, got, c.want)
			}
		})
	}
}

package zerohop

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
)

type proberFunc func(context.Context, *loadbalance.Node) (loadbalance.Load, error)

func (f proberFunc) Probe(ctx context.Context, n *loadbalance.Node) (loadbalance.Load, error) {
	return f(ctx, n)
}

func probedMesh(t *testing.T, c loadbalance.PrequalConfig, p loadbalance.Prober) *Mesh {
	t.Helper()
	eps := make([]discovery.Endpoint, 50)
	for i := range eps {
		eps[i].Addr = "10.0.0." + string(rune('A'+i)) + ":80"
	}
	m, err := New(Config{
		Resolver:  discovery.Static{"Orders": eps, "orders": eps},
		Balancers: map[string]loadbalance.Builder{"by-report": c.Prequal},
		Probers:   map[string]loadbalance.Prober{"Orders": p},
		Spec:      Spec{Defaults: Policy{Balance: "by-report"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func callOnce(t *testing.T, m *Mesh) {
	t.Helper()
	if _, err := Do(t.Context(), m, "orders", func(context.Context, *loadbalance.Node) (int, error) { return 0, nil }); err != nil {
		t.Error(err)
	}
}

// Calls are followed by probes, never wait for them, and cause no more of them than there may be.
func TestCallsAreFollowedByProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var inflight, most, probes atomic.Int64
		m := probedMesh(t, loadbalance.PrequalConfig{MaxAge: 20 * time.Millisecond}, proberFunc(func(ctx context.Context, n *loadbalance.Node) (loadbalance.Load, error) {
			probes.Add(1)
			most.Store(max(most.Load(), inflight.Add(1)))
			defer inflight.Add(-1)
			time.Sleep(time.Millisecond)
			return loadbalance.Load{InFlight: 1, Latency: time.Millisecond}, nil
		}))
		defer m.Close()
		start := time.Now()
		callOnce(t, m)
		if d := time.Since(start); d != 0 {
			t.Errorf("the call took %v, want no time", d)
		}
		time.Sleep(time.Second)
		if got := probes.Swap(0); got != 3 {
			t.Errorf("one call was followed by %d probes, want 3", got)
		}
		time.Sleep(time.Minute)
		if got := probes.Swap(0); got != 0 {
			t.Errorf("%d probes without any call, want none", got)
		}
		for range 10_000 { // a second of them
			callOnce(t, m)
			time.Sleep(100 * time.Microsecond)
		}
		if got := probes.Load(); got < 450 || got > 503 {
			t.Errorf("%d probes in a second of many calls, want nearly 500, and no more", got)
		}
		if got := most.Load(); got != 3 {
			t.Errorf("%d probes at a time, want 3", got)
		}
	})
}

// Close ends a probe that is under way.
func TestCloseEndsProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := probedMesh(t, loadbalance.PrequalConfig{ProbeTimeout: time.Hour}, proberFunc(func(ctx context.Context, n *loadbalance.Node) (loadbalance.Load, error) {
			<-ctx.Done()
			return loadbalance.Load{}, ctx.Err()
		}))
		callOnce(t, m)
		synctest.Wait()
		start := time.Now()
		m.Close()
		if d := time.Since(start); d != 0 {
			t.Errorf("Close took %v, want no time", d)
		}
	})
}

// A prober that is closed gives way to that of the next attempt.
func TestClosedProbersAreReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := probedMesh(t, loadbalance.PrequalConfig{}, nil)
		defer m.Close()
		delete(m.cfg.Probers, "orders")
		var first, second atomic.Int64
		var closed atomic.Bool
		s, err := m.service("orders")
		if err != nil {
			t.Fatal(err)
		}
		callOnce(t, m)
		a := &Attempt{call: &Call{target: s.direct}}
		if !a.WantsProber() {
			t.Fatal("WantsProber() = false before there is one")
		}
		a.SetProber(proberFunc(func(context.Context, *loadbalance.Node) (loadbalance.Load, error) {
			if closed.Load() {
				return loadbalance.Load{}, loadbalance.ErrProberClosed
			}
			first.Add(1)
			return loadbalance.Load{InFlight: 1}, nil
		}))
		callOnce(t, m)
		synctest.Wait()
		if got := first.Load(); got != 3 || a.WantsProber() {
			t.Errorf("%d probes by the first prober, want 3; WantsProber() = %v, want false", got, a.WantsProber())
		}
		closed.Store(true)
		time.Sleep(time.Second)
		callOnce(t, m)
		synctest.Wait()
		if !a.WantsProber() {
			t.Fatal("WantsProber() = false although the prober is closed")
		}
		a.SetProber(proberFunc(func(context.Context, *loadbalance.Node) (loadbalance.Load, error) {
			second.Add(1)
			return loadbalance.Load{InFlight: 1}, nil
		}))
		time.Sleep(time.Second)
		callOnce(t, m)
		synctest.Wait()
		if got := second.Load(); got != 3 {
			t.Errorf("%d probes by the second prober, want 3", got)
		}
	})
}

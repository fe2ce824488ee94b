package zerohop

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/healthcheck"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/routing"
)

func TestUpdateSeesNoDifferenceInOrderOrEmptiness(t *testing.T) {
	m := open(t, Config{Resolver: orders(1), Spec: Spec{
		Services: map[string]Policy{"a": {Select: Select{Match: map[string]string{"x": "1", "y": "2"}}}, "b": {}},
		Policies: map[string]Policy{"p": {}},
		Routes:   []routing.Rule{{Name: "r", Match: routing.Match{Service: "a"}, Backends: []routing.Backend{{Service: "b"}}}},
	}})
	for range 5 {
		other := Spec{Services: map[string]Policy{}, Policies: map[string]Policy{"p": {Hash: []HashSource{}, Select: Select{Match: map[string]string{}, Headers: map[string]string{}}}}}
		other.Services["b"] = Policy{Hash: []HashSource{}}
		other.Services["a"] = Policy{Select: Select{Match: map[string]string{"y": "2", "x": "1"}}}
		other.Routes = []routing.Rule{{
			Name: "r", Match: routing.Match{Service: "a"}, Or: []routing.Match{},
			Backends: []routing.Backend{{Service: "b", Select: map[string]string{}}}, Mirrors: []routing.Mirror{},
		}}
		if c := update(t, m, other); c.Generation != 1 || len(c.Fields) > 0 {
			t.Fatalf("generation %d, changed: %v", c.Generation, c.Fields)
		}
	}
	if c := update(t, m, Spec{Services: map[string]Policy{}}); c.Generation != 2 {
		t.Errorf("generation %d, want 2", c.Generation)
	}
	if c := update(t, m, Spec{Routes: []routing.Rule{}}); c.Generation != 2 {
		t.Errorf("generation %d of nothing after nothing, want 2", c.Generation)
	}
}

func TestUpdateCountsCallsThatFaultsHoldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := func(attempts int) Spec {
			s := faulty(routing.Rule{Name: "slow", Fault: routing.Fault{Delay: time.Minute, MaxActive: 1}}, Policy{})
			s.Defaults.Retry.Attempts = attempts
			return s
		}
		m := open(t, Config{Resolver: orders(1), Spec: spec(2)})
		var held sync.WaitGroup
		held.Go(func() { _ = ping(t.Context(), m, "orders") })
		synctest.Wait()
		update(t, m, spec(3))
		start := time.Now()
		if err := ping(t.Context(), m, "orders"); err != nil || time.Since(start) != 0 {
			t.Errorf("%v after %v, want none at once: another call is held up", err, time.Since(start))
		}
		held.Wait()
		start = time.Now()
		if err := ping(t.Context(), m, "orders"); err != nil || time.Since(start) != time.Minute {
			t.Errorf("%v after %v, want none after a minute: no other call is held up", err, time.Since(start))
		}
	})
}

// restless returns one of many specs: services, policies, routes, mirrors, fallbacks and lanes come and go.
func restless(r *rand.Rand) Spec {
	pick := func(names ...string) string { return names[r.IntN(len(names))] }
	spec := Spec{Services: map[string]Policy{}, Policies: map[string]Policy{"p": {}}}
	for _, name := range []string{"a", "B", "orders", "shop"} {
		if r.IntN(3) == 0 {
			continue
		}
		p := Policy{Balance: pick("", "random", "peak-ewma", "least-request", "ring-hash")}
		p.Outlier.Mode = Switch(pick("", "on", "off"))
		p.Breaker.Mode = Switch(pick("", "on", "off"))
		p.ServiceBreaker.Mode = Switch(pick("", "on", "off", "observe"))
		p.Sticky.Cookie.Name = pick("", "sid")
		p.Lane.Mode = Switch(pick("", "on"))
		p.HealthCheck.Mode = Switch(pick("", "on", "off"))
		if p.HealthCheck.Mode == On {
			p.HealthCheck.Protocol = "always"
		}
		if other := pick("", "a", "fallback"); other != name {
			p.Fallback.Service = other
		}
		spec.Services[name] = p
	}
	for i := range r.IntN(3) {
		rule := routing.Rule{Name: fmt.Sprint("r", i), Match: routing.Match{Service: pick("shop", "Shop", "orders")}, Policy: pick("", "p")}
		for range r.IntN(3) {
			rule.Backends = append(rule.Backends, routing.Backend{Service: pick("a", "b", "A"), Weight: 1})
		}
		if r.IntN(2) == 0 {
			rule.Mirrors = []routing.Mirror{{Service: pick("b", "copy")}}
		}
		spec.Routes = append(spec.Routes, rule)
	}
	return spec
}

var passing = map[string]healthcheck.Checker{
	"always": healthcheck.CheckerFunc(func(context.Context, healthcheck.Probe) error { return nil }),
}

func TestUpdateAmongAllElse(t *testing.T) {
	set := discovery.Static{}
	for _, name := range []string{"a", "B", "b", "A", "orders", "shop", "Shop", "fallback", "copy"} {
		set[name] = endpoints(3)
	}
	var m *Mesh
	m = open(t, Config{
		Resolver: set, Checkers: passing,
		Hooks: Hooks{Update: func(ev UpdateEvent) { _, _ = m.Check(Spec{}); _ = m.IsService("a") }},
	})
	var all sync.WaitGroup
	over := make(chan struct{})
	forever := func(f func(r *rand.Rand)) {
		seed := rand.Uint64()
		all.Go(func() {
			for r := rand.New(rand.NewPCG(seed, 1)); ; {
				select {
				case <-over:
					return
				default:
					f(r)
				}
			}
		})
	}
	for range 3 {
		forever(func(r *rand.Rand) {
			if _, err := m.Update(restless(r)); err != nil && !errors.Is(err, ErrClosed) {
				t.Errorf("Update() = %v", err)
			}
			runtime.Gosched()
		})
	}
	for range 4 {
		forever(func(r *rand.Rand) {
			name := []string{"shop", "SHOP", "orders", "a", "b"}[r.IntN(5)]
			ctx := WithCall(WithLane(t.Context(), "x"), CallOptions{HashKey: "k", Idempotent: On})
			err := pingBut(ctx, m, name, r.IntN(10) == 0)
			if e := (*Error)(nil); err != nil && !errors.Is(err, errFlaky) && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrNoRoute) && !(errors.As(err, &e) && e.Reason == BreakerOpen) {
				t.Errorf("a call of %s: %v", name, err)
			}
		})
	}
	forever(func(r *rand.Rand) {
		if s, err := m.Shadow(restless(r)); err == nil {
			_ = s.Report()
			if r.IntN(2) == 0 {
				s.Stop()
			}
		}
		runtime.Gosched()
	})
	forever(func(r *rand.Rand) {
		stop, err := m.Subscribe("shop", func(Endpoints) {})
		unfollow := m.Follow("shop", func(Routes) {})
		_, _ = m.Spec()
		_ = m.Reachable("shop")
		_, _ = m.Check(restless(r))
		unfollow()
		if err == nil {
			stop()
		}
	})
	time.Sleep(300 * time.Millisecond)
	m.Close()
	close(over)
	all.Wait()
}

var errFlaky = errors.New("flaky")

func pingBut(ctx context.Context, m *Mesh, name string, fails bool) error {
	_, err := Do(ctx, m, name, func(context.Context, *loadbalance.Node) (int, error) {
		if fails {
			return 0, errFlaky
		}
		return 0, nil
	})
	return err
}

func TestGenerationsLeaveNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := discovery.Static{}
		for _, name := range []string{"a", "B", "b", "A", "orders", "shop", "Shop", "fallback", "copy"} {
			set[name] = endpoints(3)
		}
		m := open(t, Config{Resolver: set, Checkers: passing})
		r := rand.New(rand.NewPCG(1, 2))
		run := func(n int) (goroutines int, heap uint64) {
			for range n {
				update(t, m, restless(r))
				time.Sleep(100 * time.Millisecond) // what was forgotten lingers
				for _, name := range []string{"shop", "orders", "a"} {
					_ = ping(t.Context(), m, name)
				}
			}
			update(t, m, Spec{Services: map[string]Policy{"a": {}}})
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			var s runtime.MemStats
			runtime.GC()
			runtime.GC()
			runtime.ReadMemStats(&s)
			return runtime.NumGoroutine(), s.HeapAlloc
		}
		g0, h0 := run(100)
		g1, h1 := run(400)
		t.Logf("goroutines %d -> %d, heap %d -> %d, services %d", g0, g1, h0, h1, len(m.known()))
		if g1 > g0+5 || h1 > h0+1<<20 {
			t.Errorf("goroutines %d -> %d, heap %d -> %d bytes", g0, g1, h0, h1)
		}
	})
}

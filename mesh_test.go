package zerohop

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/discoverytest"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// endpoints returns endpoints of different addresses.
func endpoints(n int) []discovery.Endpoint {
	list := make([]discovery.Endpoint, n)
	for i := range list {
		list[i].Addr = fmt.Sprintf("10.0.0.%d:80", i+1)
	}
	return list
}

// orders knows a service "orders" with n endpoints.
func orders(n int) discovery.Static { return discovery.Static{"orders": endpoints(n)} }

func open(t *testing.T, cfg Config) *Mesh {
	t.Helper()
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// ping calls the service without doing anything there.
func ping(ctx context.Context, m *Mesh, service string) error {
	_, err := Do(ctx, m, service, func(context.Context, *loadbalance.Node) (int, error) { return 0, nil })
	return err
}

// failure returns the *Error that err is, and fails if it is none.
func failure(t *testing.T, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error = %v (%T), want an *Error", err, err)
	}
	return e
}

// inFlight returns the load of all nodes of the service.
func inFlight(m *Mesh, service string) (n int) {
	for _, node := range (*m.services.Load())[service].balancer.Set().Nodes() {
		n += node.InFlight()
	}
	return n
}

func TestIsService(t *testing.T) {
	m := open(t, Config{Resolver: discovery.Static{}, Spec: Spec{
		Services: map[string]Policy{"api.example.com": {}, "orders:80": {}, "localhost": {}},
		Routes:   []routing.Rule{{Match: routing.Match{Service: "shop.example.com"}, Backends: []routing.Backend{{Service: "shop.v2"}}}},
	}})
	for host, want := range map[string]bool{
		"orders": true, "Orders_2-x": true, "api.example.com": true, "orders:80": true, "localhost": true,
		"shop.v2": true, "": false, "orders:81": false, "LocalHost": false, "localhost:80": false,
		"127.0.0.1": false, "10.0.0.1:80": false, "[::1]": false, "[::1]:80": false, "::1": false, "fe80::1%eth0": false,
		"www.example.com": false, "orders.": false, strings.Repeat("x", 253): true, strings.Repeat("x", 254): false,
	} {
		if got := m.IsService(host); got != want {
			t.Errorf("IsService(%.60q) = %v, want %v", host, got, want)
		}
	}
	if got, want := m.IsService("shop.example.com"), true; got != want {
		t.Errorf("IsService of a host that a route matches = %v, want %v", got, want)
	}
	other := open(t, Config{Resolver: discovery.Static{}})
	if other.IsService("localhost") {
		t.Error("localhost is a service although nobody named it")
	}
}

func TestCallsWithoutEndpointsFailAtOnce(t *testing.T) {
	broken := errors.New("registry is on fire")
	silent := resolverFunc(func(ctx context.Context, _ string, _ func([]discovery.Endpoint)) error {
		<-ctx.Done()
		return ctx.Err()
	})
	for _, c := range []struct {
		name     string
		resolver discovery.Resolver
		service  string
		timeout  time.Duration
		reason   Reason
		is       error
		takes    time.Duration
	}{
		{"unknown service", discovery.Static{}, "orders", 0, NoEndpoints, discovery.ErrUnknownService, 0},
		{"no endpoints", discovery.Static{"orders": nil}, "orders", 0, NoEndpoints, loadbalance.ErrNoEndpoints, 0},
		{"no name", discovery.Static{}, "", 0, NoEndpoints, discovery.ErrUnknownService, 0},
		{"long name", discovery.Static{}, strings.Repeat("x", 300), 0, NoEndpoints, discovery.ErrUnknownService, 0},
		{"broken resolver", resolverFunc(func(context.Context, string, func([]discovery.Endpoint)) error { return broken }), "orders", 0, NoEndpoints, broken, 0},
		{"silent resolver", silent, "orders", 0, NoEndpoints, errStartTimeout, 5 * time.Second},
		{"silent resolver, impatient caller", silent, "orders", 100 * time.Millisecond, Ended, context.DeadlineExceeded, 100 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := open(t, Config{Resolver: c.resolver})
				ctx := t.Context()
				if c.timeout > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.timeout)
					defer cancel()
				}
				start := time.Now()
				err := ping(ctx, m, c.service)
				e := failure(t, err)
				if e.Reason != c.reason || !errors.Is(err, c.is) || e.Service != c.service || len(e.Attempts) > 0 || e.Sent {
					t.Errorf("error = %+v, want reason %q and to be %v", e, c.reason, c.is)
				}
				if got := time.Since(start); got != c.takes {
					t.Errorf("call took %v, want %v", got, c.takes)
				}
			})
		})
	}
}

type resolverFunc func(context.Context, string, func([]discovery.Endpoint)) error

func (f resolverFunc) Watch(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
	return f(ctx, service, update)
}

func TestCallsSucceedSoonAfterTheSourceRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var source discoverytest.Memory
		source.Set("orders", endpoints(2)...)
		source.Break(errors.New("down"))
		m := open(t, Config{Resolver: &source})
		if err := ping(t.Context(), m, "orders"); err == nil {
			t.Fatal("call succeeded without endpoints")
		}
		time.Sleep(time.Minute)
		source.Break(nil)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := ping(WithCall(ctx, CallOptions{WaitReady: true}), m, "orders"); err != nil {
			t.Errorf("call that waits failed 2 s after the source came back: %v", err)
		}
		if err := ping(t.Context(), m, "orders"); err != nil {
			t.Error(err)
		}
	})
}

func TestCallsTellWhyTheSourceHasNoEndpointsForThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(1)})
		if err := ping(t.Context(), m, "orders"); err != nil {
			t.Fatal(err)
		}
		s, broken := (*m.services.Load())["orders"], errors.New("broken")
		s.balancer.Update(nil) // as it is between the look at the service and the pick
		for _, want := range []error{loadbalance.ErrNoEndpoints, broken} {
			err := ping(t.Context(), m, "orders")
			if e := failure(t, err); e.Reason != NoEndpoints || !errors.Is(err, want) || !errors.Is(err, loadbalance.ErrNoEndpoints) {
				t.Errorf("error = %+v, want %v", e, want)
			}
			s.change(func() { s.err = broken })
		}
	})
}

func TestWaitReadyWaitsForAnUnknownService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var source discoverytest.Memory
		m := open(t, Config{Resolver: &source})
		patient := WithCall(t.Context(), CallOptions{WaitReady: true})
		time.AfterFunc(time.Hour, func() { source.Set("orders", endpoints(1)...) })
		start := time.Now()
		if err := ping(patient, m, "orders"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < time.Hour || took > time.Hour+2*time.Second {
			t.Errorf("call waited %v for an endpoint that came after 1 h", took)
		}

		ctx, cancel := context.WithTimeout(patient, time.Second)
		defer cancel()
		err := ping(ctx, m, "ledger")
		if e := failure(t, err); e.Reason != Ended || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, discovery.ErrUnknownService) {
			t.Errorf("error = %+v, want the deadline and why there was nothing to call", e)
		}
	})
}

func TestCallsFailAtOnceWhileAllBreakersAreOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(2), Spec: Spec{Defaults: Policy{Breaker: Breaker{Mode: On}}}})
		down := true
		var sent int
		call := func() error {
			_, err := Do(t.Context(), m, "orders", func(context.Context, *loadbalance.Node) (int, error) {
				sent++
				if down {
					return 0, errors.New("down")
				}
				return 0, nil
			})
			return err
		}
		var err error
		for range 30 {
			err = call()
		}
		if e := failure(t, err); e.Reason != Unavailable || !errors.Is(err, loadbalance.ErrUnavailable) || e.Sent || len(e.Attempts) > 0 {
			t.Errorf("error = %+v, want all endpoints unavailable", e)
		}
		if sent != 10 {
			t.Errorf("%d attempts on two endpoints whose breakers open after 5 failures, want 10", sent)
		}
		down = false
		time.Sleep(2 * time.Second)
		for range 10 {
			if err := call(); err != nil {
				t.Errorf("call 2 s after the cause went away: %v", err)
			}
		}
	})
}

func TestCloseIsIdempotentAndEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(2)})
		if err := ping(t.Context(), m, "orders"); err != nil {
			t.Fatal(err)
		}
		var running sync.WaitGroup
		finish := make(chan struct{})
		for range 10 {
			running.Go(func() {
				_, err := Do(t.Context(), m, "orders", func(context.Context, *loadbalance.Node) (int, error) { <-finish; return 0, nil })
				if err != nil {
					t.Errorf("call that had begun before Close failed: %v", err)
				}
			})
		}
		synctest.Wait()
		for range 5 {
			running.Go(func() {
				if err := m.Close(); err != nil {
					t.Errorf("Close() = %v", err)
				}
			})
		}
		synctest.Wait()
		err := ping(t.Context(), m, "orders")
		if e := failure(t, err); e.Reason != Closed || !errors.Is(err, ErrClosed) {
			t.Errorf("call after Close = %+v, want %v", e, ErrClosed)
		}
		if _, err := m.Subscribe("orders", nil); !errors.Is(err, ErrClosed) {
			t.Errorf("Subscribe after Close = %v, want %v", err, ErrClosed)
		}
		if m.IsService("10.0.0.1") || !m.IsService("orders") {
			t.Error("Close changed what is a service")
		}
		close(finish)
		running.Wait()
	})
}

func TestCallsThatWaitEndWithTheMesh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: discovery.Static{}})
		done := make(chan error, 1)
		go func() { done <- ping(WithCall(t.Context(), CallOptions{WaitReady: true}), m, "orders") }()
		synctest.Wait()
		m.Close()
		err := <-done
		if e := failure(t, err); e.Reason != Closed || !errors.Is(err, ErrClosed) {
			t.Errorf("error = %+v, want %v", e, ErrClosed)
		}
	})
}

func TestCloseDuringACallLeavesNoDoubtWhy(t *testing.T) {
	var m *Mesh
	m = open(t, Config{Resolver: orders(1), Hooks: Hooks{CallStart: func(ctx context.Context, _ CallInfo) context.Context {
		m.Close()
		return ctx
	}}})
	err := ping(t.Context(), m, "orders")
	if e := failure(t, err); e.Reason != Closed || !errors.Is(err, ErrClosed) {
		t.Errorf("error = %+v, want %v", e, ErrClosed)
	}
}

func TestServicesThatCallsNameAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var watches atomic.Int64
		resolver := resolverFunc(func(ctx context.Context, _ string, update func([]discovery.Endpoint)) error {
			watches.Add(1)
			defer watches.Add(-1)
			update(endpoints(1))
			<-ctx.Done()
			return ctx.Err()
		})
		m := open(t, Config{Resolver: resolver, Spec: Spec{Services: map[string]Policy{"named": {}}}})
		stop, err := m.Subscribe("subscribed", func(Endpoints) {})
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		if err := ping(t.Context(), m, "oldest"); err != nil {
			t.Fatal(err)
		}
		for i := range 3 * maxDynamicServices {
			if err := ping(t.Context(), m, fmt.Sprintf("s%d", i)); err != nil {
				t.Fatalf("call to the %dth service: %v", i, err)
			}
			if err := ping(t.Context(), m, "busy"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if got, want := watches.Load(), int64(maxDynamicServices+1); got != want {
			t.Errorf("%d watches, want %d", got, want)
		}
		known := *m.services.Load()
		for name, want := range map[string]bool{"named": true, "subscribed": true, "busy": true, "oldest": false, "s0": false, "s2999": true} {
			if _, got := known[name]; got != want {
				t.Errorf("%s is known: %v, want %v", name, got, want)
			}
		}
		if err := ping(t.Context(), m, "oldest"); err != nil {
			t.Errorf("call to a service that was forgotten: %v", err)
		}
	})
}

func TestBurstOfNewServicesDoesNotEvictItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		resolver := resolverFunc(func(ctx context.Context, _ string, update func([]discovery.Endpoint)) error {
			time.Sleep(100 * time.Millisecond)
			update(endpoints(1))
			<-ctx.Done()
			return ctx.Err()
		})
		m := open(t, Config{Resolver: resolver})
		for i := range maxDynamicServices {
			if _, err := m.service(fmt.Sprintf("old%d", i)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		var calls sync.WaitGroup
		for i := range 200 {
			calls.Go(func() {
				if err := ping(t.Context(), m, fmt.Sprintf("new%d", i)); err != nil {
					t.Errorf("call to a new service: %v", err)
				}
			})
		}
		calls.Wait()
	})
}

func TestCallsOnAForgottenServiceEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: resolverFunc(func(ctx context.Context, _ string, _ func([]discovery.Endpoint)) error {
			<-ctx.Done()
			return ctx.Err()
		})})
		s, err := m.service("orders")
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, s.stop)
		start := time.Now()
		if err := ping(t.Context(), m, "orders"); !errors.Is(err, errForgotten) || time.Since(start) != time.Second {
			t.Errorf("call ended after %v with %v, want %v", time.Since(start), err, errForgotten)
		}
	})
}

func TestRoutesShareCallsOutByWeight(t *testing.T) {
	m := open(t, Config{
		Resolver: discovery.Static{"v1": endpoints(1), "v2": endpoints(1)},
		Spec: Spec{Routes: []routing.Rule{{
			Name: "split", Match: routing.Match{Service: "orders"},
			Backends: []routing.Backend{{Service: "v1", Weight: 3}, {Service: "v2", Weight: 1}},
		}}},
		Hooks: Hooks{},
	})
	count := map[string]int{}
	const n = 4000
	for range n {
		target, err := m.target(&routing.Request{Service: "orders"})
		if err != nil {
			t.Fatal(err)
		}
		if target.route != "split" {
			t.Fatalf("route = %q, want split", target.route)
		}
		count[target.service.name]++
	}
	// Binomial with p = 0.25 and n = 4000: 5 standard deviations are 137.
	if got := count["v2"]; got < n/4-137 || got > n/4+137 || count["v1"] != n-got {
		t.Errorf("calls = %v, want 3 to 1", count)
	}
	if got := m.Reachable("orders"); len(got) < 2 {
		t.Errorf("Reachable(orders) = %v, want both backends", got)
	}
}

func TestSubscribeTellsWhatIsKnownAndEveryChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var source discoverytest.Memory
		m := open(t, Config{Resolver: &source})
		var mu sync.Mutex
		var seen []Endpoints
		last := func() Endpoints {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return seen[len(seen)-1]
		}
		stop, err := m.Subscribe("orders", func(e Endpoints) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, e)
		})
		if err != nil {
			t.Fatal(err)
		}
		if e := last(); !e.Known || e.Balancer == nil || !errors.Is(e.Err, discovery.ErrUnknownService) {
			t.Errorf("Endpoints of an unknown service = %+v", e)
		}
		source.Set("orders", endpoints(3)...)
		time.Sleep(2 * time.Second)
		if e := last(); !e.Known || e.Err != nil || len(e.Balancer.Set().Nodes()) != 3 {
			t.Errorf("Endpoints = %+v, want 3 nodes", e)
		}
		broken := errors.New("broken")
		source.Break(broken)
		if e := last(); !errors.Is(e.Err, broken) || len(e.Balancer.Set().Nodes()) != 3 {
			t.Errorf("Endpoints = %+v, want 3 nodes and the error", e)
		}
		stop()
		stop()
		told := len(seen)
		source.Break(nil)
		source.Set("orders", endpoints(1)...)
		time.Sleep(time.Minute)
		if last(); len(seen) != told {
			t.Errorf("%d reports after stop", len(seen)-told)
		}
		if _, err := m.Subscribe("", nil); !errors.Is(err, discovery.ErrUnknownService) {
			t.Errorf("Subscribe to no name = %v, want %v", err, discovery.ErrUnknownService)
		}
	})
}

func TestDiscoveryHookHearsOfEveryService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		heard := map[string]discovery.EventKind{}
		m := open(t, Config{Resolver: orders(1), Hooks: Hooks{Discovery: func(service string, ev discovery.Event) {
			mu.Lock()
			defer mu.Unlock()
			heard[service] = ev.Kind
		}}})
		_ = ping(t.Context(), m, "orders")
		_ = ping(t.Context(), m, "ledger")
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if heard["orders"] != discovery.EventPublished || heard["ledger"] == 0 {
			t.Errorf("events = %v, want one for each service", heard)
		}
	})
}

func TestErrorSaysWhatHappened(t *testing.T) {
	cause := errors.New("refused")
	e := &Error{
		Service: "orders", Reason: Failed, Detail: resilience.Exhausted, Err: cause,
		Attempts: []AttemptRecord{{Addr: "a:1", Duration: time.Millisecond}, {Addr: "b:1", Duration: 2 * time.Millisecond}},
	}
	if got, want := e.Error(), "zerohop: orders: failed (attempts exhausted) after a:1 in 1ms, b:1 in 2ms: refused"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
	if e.Timeout() {
		t.Error("Timeout() of a refused connection")
	}
	e.Err = fmt.Errorf("slow: %w", timeoutError(time.Second))
	if !e.Timeout() {
		t.Error("no Timeout() of an attempt timeout")
	}
	if got, want := timeoutError(time.Second).Error(), "zerohop: attempt took longer than 1s"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
}

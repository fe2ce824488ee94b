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
)

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
		{"name that the source does not know", discovery.Static{"orders": nil}, "orders", 0, NoEndpoints, errNoInstance, 0},
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
		s, broken := m.known()["orders"], errors.New("broken")
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
		if e := failure(t, err); e.Reason != Unavailable || !errors.Is(err, loadbalance.ErrUnavailable) || e.Sent || len(e.Attempts) > 0 || e.After <= 0 || e.After > time.Second {
			t.Errorf("error = %+v, want all endpoints unavailable, and until when", e)
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
		known := m.known()
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
		time.AfterFunc(time.Second, func() { s.stop(errForgotten) })
		start := time.Now()
		if err := ping(t.Context(), m, "orders"); !errors.Is(err, errForgotten) || time.Since(start) != time.Second {
			t.Errorf("call ended after %v with %v, want %v", time.Since(start), err, errForgotten)
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

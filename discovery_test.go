package zerohop

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/discoverytest"
	"github.com/zerohop/zerohop/resilience"
)

func TestDiscoveryTellsTheAgeOfWhatIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("registry on fire")
		var source discoverytest.Memory
		source.Break(down)
		m := open(t, Config{Resolver: &source})
		if _, known := m.Discovery("orders"); known {
			t.Error("a service is known that nobody has asked for")
		}
		state := func() DiscoveryState {
			t.Helper()
			synctest.Wait()
			d, ok := m.Discovery("Orders")
			if !ok {
				t.Fatal("the service is not known")
			}
			return d
		}
		begun := time.Now()
		_ = ping(t.Context(), m, "orders")
		time.Sleep(time.Minute)
		if d := state(); d.Known || d.Age != time.Minute || !d.Lost.Equal(begun) || !errors.Is(d.Err, down) || !d.Changed.IsZero() {
			t.Errorf("before the first answer: %+v", d)
		}
		source.Set("orders", endpoints(8)...)
		source.Break(nil)
		time.Sleep(2 * time.Second)
		d := state()
		if !d.Known || d.Age != 0 || d.Err != nil || d.Endpoints != 8 || d.Held != 0 || d.Changed.IsZero() {
			t.Errorf("after the first answer: %+v", d)
		}
		changed := d.Changed
		time.Sleep(time.Hour)
		if d := state(); d.Age != 0 || !d.Changed.Equal(changed) {
			t.Errorf("an hour later: %+v", d)
		}
		source.Break(down)
		const outage = 10 * time.Hour
		time.Sleep(outage)
		if d := state(); d.Age != outage || !errors.Is(d.Err, down) || d.Endpoints != 8 || !d.Changed.Equal(changed) {
			t.Errorf("after hours without the source: %+v", d)
		}
		if err := ping(t.Context(), m, "orders"); err != nil {
			t.Errorf("a call after hours without the source: %v", err)
		}
		source.Break(nil)
		time.Sleep(2 * time.Second)
		if d := state(); d.Age != 0 || d.Err != nil || d.Endpoints != 8 || !d.Changed.Equal(changed) {
			t.Errorf("when the source says the same as before: %+v", d)
		}
		source.Set("orders", endpoints(2)...)
		if d := state(); d.Age != 0 || d.Endpoints != 8 || d.Held != 6 {
			t.Errorf("after a mass removal: %+v", d)
		}
		time.Sleep(7 * time.Second)
		if d := state(); d.Endpoints != 2 || d.Held != 0 || d.Changed.Equal(changed) {
			t.Errorf("when the source insists: %+v", d)
		}
		m.Close()
		if d := state(); !errors.Is(d.Err, ErrClosed) {
			t.Errorf("after Close: %+v", d)
		}
	})
}

func TestDiscoverySettingsReachTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var source discoverytest.Memory
		source.Set("orders", endpoints(8)...)
		m := open(t, Config{Resolver: &source, Discovery: Discovery{EmptyGrace: time.Minute, MaxRemoval: 1}})
		if err := ping(t.Context(), m, "orders"); err != nil {
			t.Fatal(err)
		}
		source.Set("orders", endpoints(1)...)
		synctest.Wait()
		if d, _ := m.Discovery("orders"); d.Endpoints != 1 {
			t.Errorf("%d endpoints in use, want 1", d.Endpoints)
		}
		source.Set("orders")
		time.Sleep(time.Minute)
		if d, _ := m.Discovery("orders"); d.Endpoints != 1 || d.Held != 1 {
			t.Errorf("%+v a minute after all endpoints were lost", d)
		}
		time.Sleep(time.Second)
		if d, _ := m.Discovery("orders"); d.Endpoints != 0 {
			t.Errorf("%+v after more than a minute without endpoints", d)
		}
	})
}

// Calls wait for a source that is silent from the start only as long as it may still be about to answer.
func TestCallsDoNotWaitForASourceThatStaysSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan struct{})
		m := open(t, Config{StartTimeout: time.Second, Resolver: resolverFunc(func(ctx context.Context, _ string, update func([]discovery.Endpoint)) error {
			select {
			case <-answer:
				update(endpoints(1))
				<-ctx.Done()
			case <-ctx.Done():
			}
			return ctx.Err()
		})})
		start := time.Now()
		for range 100 {
			err := ping(t.Context(), m, "orders")
			if e := failure(t, err); e.Reason != NoEndpoints || !errors.Is(err, errStartTimeout) || e.Sent {
				t.Errorf("error = %+v, want that the source has not answered", e)
			}
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("a hundred calls one after the other took %v, want 1s in all", took)
		}
		patient := WithCall(t.Context(), CallOptions{WaitReady: true})
		time.AfterFunc(time.Hour, func() { close(answer) })
		if err := ping(patient, m, "orders"); err != nil || time.Since(start) != time.Hour+time.Second {
			t.Errorf("a call that waits: %v after %v", err, time.Since(start))
		}
	})
}

// An endpoint that comes and goes a hundred times a second changes the set ten times, and what is known of the others stays.
func TestFlappingEndpointLeavesTheOthersAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := make([]discovery.Endpoint, 200)
		for i := range all {
			all[i].Addr = fmt.Sprintf("host-%03d:80", i)
		}
		var source discoverytest.Memory
		source.Set("orders", all...)
		var published atomic.Int64
		m := open(t, Config{
			Resolver: &source, Spec: Spec{Defaults: Policy{Breaker: Breaker{Mode: On, OpenFor: time.Hour}, Outlier: Outlier{Mode: Off}}},
			Hooks: Hooks{Discovery: func(_ string, ev discovery.Event) {
				if ev.Kind == discovery.EventPublished {
					published.Add(1)
				}
			}},
		})
		if err := ping(t.Context(), m, "orders"); err != nil {
			t.Fatal(err)
		}
		b := m.known()["orders"].balancer
		before := b.Set().Nodes()
		now := time.Now()
		for i, n := range before[:199] {
			for range 10 {
				d, ok := n.Breaker().Allow(n.Since(now))
				if !ok {
					break
				}
				o := resilience.Success
				if i == 0 {
					o = resilience.Failure
				}
				d.Done(n.Since(now), o, 0)
			}
		}
		states := func() (list []resilience.BreakerState) {
			for _, n := range b.Set().Nodes()[:199] {
				list = append(list, n.BreakerState(time.Now()))
			}
			return list
		}
		if got := states(); got[0] != resilience.BreakerOpen || got[1] != resilience.BreakerClosed {
			t.Fatalf("breakers are %v", got[:2])
		}
		published.Store(0)
		const seconds = 10
		for i := range 100 * seconds {
			source.Set("orders", all[:199+(i+1)%2]...)
			time.Sleep(10 * time.Millisecond)
			if i%10 == 0 {
				if err := ping(t.Context(), m, "orders"); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := published.Load(); got > 10*seconds || got < 5*seconds {
			t.Errorf("%d changes in %d s, want at most ten a second", got, seconds)
		}
		after := b.Set().Nodes()
		for i, n := range before[:199] {
			if after[i] != n {
				t.Fatalf("node %s was replaced", n.Addr())
			}
		}
		if got := states(); got[0] != resilience.BreakerOpen || got[1] != resilience.BreakerClosed {
			t.Errorf("breakers are %v, want them as before", got[:2])
		}
	})
}

// What a mesh needs for a service is one goroutine, beside what its resolver needs.
func TestServicesCostOneGoroutineEach(t *testing.T) {
	const services = 200
	static, spec := discovery.Static{}, Spec{Services: map[string]Policy{}}
	for i := range services {
		name := fmt.Sprint("s", i)
		static[name] = endpoints(3)
		spec.Services[name] = Policy{}
	}
	before := runtime.NumGoroutine()
	m := open(t, Config{Resolver: static, Spec: spec})
	for name := range spec.Services {
		if err := ping(t.Context(), m, name); err != nil {
			t.Fatal(err)
		}
	}
	if got := runtime.NumGoroutine() - before; got > services+5 {
		t.Errorf("%d goroutines for %d services", got, services)
	}
}

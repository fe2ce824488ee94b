package zerohop

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

func TestStateTellsOfServiceBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told events
		m := open(t, Config{Resolver: orders(1), Hooks: told.hooks(), Spec: Spec{Defaults: Policy{
			ServiceBreaker: Breaker{Mode: On, Consecutive: 2, Jitter: -1}, Outlier: Outlier{Mode: Off},
		}}})
		start := time.Now()
		b := backend{err: always(errDown)}
		_, _ = b.call(t.Context(), m), b.call(t.Context(), m)
		time.Sleep(time.Second)
		b.err = always(nil)
		if err := b.call(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		told.expect(t, start, "0s breaker_opened until 1s", "1s breaker_half_opened", "1s breaker_closed")
	})
}

// An Update that takes away an open breaker closes it, and a breaker that is no longer in force says nothing.
func TestStateTellsOfReplacedBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told events
		spec := Spec{Services: map[string]Policy{"orders": {ServiceBreaker: Breaker{Mode: On, Consecutive: 2, Jitter: -1}, Outlier: Outlier{Mode: Off}}}}
		m := open(t, Config{Resolver: orders(1), Hooks: told.hooks(), Spec: spec})
		start := time.Now()
		b := backend{err: always(errDown)}
		_, _ = b.call(t.Context(), m), b.call(t.Context(), m)
		old := m.known()["orders"].breaker.Load()
		spec = Spec{Services: map[string]Policy{"orders": {Outlier: Outlier{Mode: Off}}}}
		if _, err := m.Check(spec); err != nil {
			t.Fatal(err)
		}
		told.expect(t, start, "0s breaker_opened until 1s")
		if _, err := m.Update(spec); err != nil {
			t.Fatal(err)
		}
		_ = old.Force(m.now(), resilience.BreakerForcedOpen)
		told.expect(t, start, "0s breaker_closed")
	})
}

func TestStateTellsOfBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, kind := range []string{resilience.BudgetSuccess, resilience.BudgetGRPC, resilience.BudgetRatio} {
			var told events
			m := open(t, Config{Resolver: orders(1), Hooks: told.hooks(), Spec: Spec{Defaults: Policy{
				Budget: Budget{Kind: kind, Floor: map[bool]float64{true: 1}[kind == resilience.BudgetRatio]}, Outlier: Outlier{Mode: Off},
				Retry: Retry{Base: time.Millisecond, Max: time.Millisecond}, Idempotent: On,
			}}})
			b := backend{err: always(errDown)}
			var start time.Time
			for range 20 {
				start = time.Now()
				if e := failure(t, b.call(t.Context(), m)); e.Detail == resilience.OverBudget && len(e.Attempts) == 1 {
					break
				}
			}
			if got := told.take(start); len(got) != 1 || got[0][len(got[0])-len("budget_empty"):] != "budget_empty" {
				t.Errorf("%s: events = %q, want that the budget is empty", kind, got)
			}
			if st := m.State().Services[0]; st.Budget > 0.5 {
				t.Errorf("%s: Budget = %v, want at most 0.5", kind, st.Budget)
			}
			b.err = always(nil)
			for range 60 {
				if err := b.call(t.Context(), m); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(20 * time.Second) // the window of "ratio" passes
			if got := told.take(start); len(got) != 1 || got[0][len(got[0])-len("budget_restored"):] != "budget_restored" {
				t.Errorf("%s: events = %q, want that the budget is restored, once", kind, got)
			}
			m.Close()
		}
	})
}

func TestStateTellsOfSheddingByStage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told events
		m := open(t, Config{Resolver: orders(1), Hooks: told.hooks(), Spec: Spec{Defaults: Policy{
			RateLimit: RateLimit{Mode: On, Rate: 1, Burst: 1},
		}}})
		start := time.Now()
		for range 10 { // of which the first passes
			_ = ping(t.Context(), m, "orders")
		}
		time.Sleep(9500 * time.Millisecond)
		_, _ = ping(t.Context(), m, "orders"), ping(t.Context(), m, "orders")
		told.expect(t, start, "0s shedding rate-limit")
		time.Sleep(11 * time.Second)
		told.expect(t, start, "19.5s shedding_ended rate-limit")
		_, _ = ping(t.Context(), m, "orders"), ping(t.Context(), m, "orders")
		told.expect(t, start, "20.5s shedding rate-limit")
	})
}

func TestStateTellsNotOfWhatIsOnlyObserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told events
		m := open(t, Config{Resolver: orders(1), Hooks: told.hooks(), Spec: Spec{Defaults: Policy{
			RateLimit: RateLimit{Mode: Observe, Rate: 1, Burst: 1}, ServiceBreaker: Breaker{Mode: Observe, Consecutive: 1}, Outlier: Outlier{Mode: Off},
		}}})
		b := backend{err: always(errDown)}
		for range 5 {
			_ = b.call(t.Context(), m)
		}
		told.expect(t, time.Now())
	})
}

// A hook may do what it likes to the mesh, and what comes of that is told after it has returned.
func TestStateHookMayActOnTheMesh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m *Mesh
		var got []StateKind
		running := false
		hook := func(service string, ev StateEvent) {
			if running {
				t.Error("the hook is called while it runs")
			}
			running = true
			got = append(got, ev.Kind)
			m.State()
			if ev.Kind == StateOperator && ev.Cause == string(ActionPauseRetries) {
				op := Operation{Service: service, For: time.Minute}
				if err := m.ForceBreakerFor(op, resilience.BreakerForcedOpen); err != nil {
					t.Error(err)
				}
				if err := m.Release(op); err != nil {
					t.Error(err)
				}
			}
			running = false
		}
		m = open(t, Config{Resolver: orders(1), Hooks: Hooks{State: hook}})
		if err := ping(t.Context(), m, "orders"); err != nil {
			t.Fatal(err)
		}
		if err := m.PauseRetries(Operation{Service: "orders", For: time.Minute}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		want := []StateKind{StateOperator, StateOperator, StateBreakerOpened, StateOperatorEnded, StateBreakerClosed, StateOperatorEnded}
		if !slices.Equal(got, want) {
			t.Errorf("events = %q, want %q", got, want)
		}
	})
}

func TestStateEventsThatWaitAreBoundedAndCounted(t *testing.T) {
	var calls, lost atomic.Int64
	m := open(t, Config{Resolver: orders(1), Hooks: Hooks{State: func(_ string, ev StateEvent) {
		calls.Add(1)
		lost.Add(int64(ev.Lost))
	}}})
	if err := ping(t.Context(), m, "orders"); err != nil {
		t.Fatal(err)
	}
	u := m.known()["orders"].upstream
	u.hold()
	for range 2 * maxNews {
		u.tell(StateEvent{Kind: StateSpared})
	}
	if n := calls.Load(); n != 0 {
		t.Errorf("%d events told although they are held up", n)
	}
	u.release()
	if n := calls.Load(); n != maxNews {
		t.Errorf("%d events told, want %d", n, maxNews)
	}
	u.balanced(loadbalance.Event{Kind: loadbalance.TakenOut, Lost: 2})
	u.balanced(loadbalance.Event{Kind: loadbalance.Spared, Lost: 3})
	if n := lost.Load(); n != maxNews+5 {
		t.Errorf("%d events told to be lost, want %d here and 5 by the balancer", n, maxNews)
	}
	if u.tell(StateEvent{Kind: StateSpared}); lost.Load() != maxNews+5 {
		t.Error("lost events are counted twice")
	}
}

func TestStateEventsOfBalancerHaveNames(t *testing.T) {
	var told events
	m := open(t, Config{Resolver: orders(1), Hooks: told.hooks()})
	if err := ping(t.Context(), m, "orders"); err != nil {
		t.Fatal(err)
	}
	u, now := m.known()["orders"].upstream, time.Now()
	silent := map[loadbalance.EventKind]bool{loadbalance.TakenOut: true, loadbalance.PutBack: true}
	for kind := loadbalance.Ejected; kind <= loadbalance.SpillEnded; kind++ {
		u.balanced(loadbalance.Event{Kind: kind, Cause: loadbalance.SlowResponses, Addr: "a", Zone: "z", Time: now, Until: now.Add(1), Value: 2, Bound: 3, Out: 4, Nodes: 5})
		told.mu.Lock()
		got := told.list
		told.list = nil
		told.mu.Unlock()
		want := fmt.Sprint([]StateEvent{{Kind: kindOf(kind), Addr: "a", Zone: "z", Cause: "slow", Time: now, Until: now.Add(1), Value: 2, Bound: 3, Endpoints: 1}})
		if silent[kind] {
			want = "[]"
		} else if kindOf(kind) == "" {
			t.Errorf("kind %d has no name", kind)
		}
		if fmt.Sprint(got) != want {
			t.Errorf("kind %d: %v, want %s", kind, got, want)
		}
	}
}

func TestStateTellsOfEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told events
		m := open(t, Config{Resolver: orders(4), Hooks: told.hooks(), Spec: Spec{Defaults: Policy{
			Outlier: Outlier{Consecutive: 3, Ejection: time.Second, Jitter: -1}, Budget: Budget{Mode: Off},
			Breaker: Breaker{Mode: On, Consecutive: 3, Jitter: -1}, Retry: Retry{Mode: Off}, Balance: "random",
		}}})
		bad := endpoints(1)[0].Addr
		b := backend{err: func(addr string) error {
			if addr == bad {
				return errDown
			}
			return nil
		}}
		start := time.Now()
		for range 200 {
			_ = b.call(t.Context(), m)
		}
		synctest.Wait()
		kinds := map[StateKind]string{}
		for _, ev := range told.list {
			kinds[ev.Kind] = ev.Cause
			if ev.Addr != bad || ev.Endpoints != 4 || ev.Out != 1 || !ev.Time.Equal(start) || !ev.Until.Equal(start.Add(time.Second)) {
				t.Errorf("event = %+v", ev)
			}
		}
		if len(kinds) != 2 || kinds[StateEjected] != "consecutive" || kinds[StateBreakerOpened] != "" {
			t.Errorf("events = %v, want an ejection and an open breaker", kinds)
		}
		ep := m.State().Services[0].Endpoints[0]
		if !ep.EjectedUntil.Equal(start.Add(time.Second)) || ep.Ejection != "consecutive" || ep.Breaker != resilience.BreakerOpen || ep.Share != 0 {
			t.Errorf("State() = %+v", ep)
		}
		told.take(start)
		b.err = always(nil)
		time.Sleep(1100 * time.Millisecond)
		for range 200 {
			_ = b.call(t.Context(), m)
		}
		told.expect(t, start, "1.1s breaker_half_opened "+bad, "1.1s returned "+bad, "1.1s breaker_closed "+bad)
		if ep := m.State().Services[0].Endpoints[0]; !ep.EjectedUntil.IsZero() || ep.Ejection != "" {
			t.Errorf("afterwards: State() = %+v", ep)
		}
	})
}

// Hooks of whatever the mesh does itself may act on the mesh, too: it holds no lock.
func TestStateHookMayUpdateTheMesh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m *Mesh
		calls := 0
		m = open(t, Config{Resolver: orders(1), Hooks: Hooks{State: func(service string, ev StateEvent) {
			if calls++; calls == 1 {
				spec, _ := m.Spec()
				spec.Defaults.Timeout = time.Second
				if _, err := m.Update(spec); err != nil {
					t.Error(err)
				}
			}
		}}, Spec: Spec{Services: map[string]Policy{"orders": {ServiceBreaker: Breaker{Mode: On}}}}})
		if err := ping(t.Context(), m, "orders"); err != nil {
			t.Fatal(err)
		}
		if err := m.known()["orders"].breaker.Load().Force(m.now(), resilience.BreakerClosed); err != nil {
			t.Fatal(err)
		}
		if err := m.known()["orders"].breaker.Load().Force(m.now(), resilience.BreakerOpen); err != nil {
			t.Fatal(err)
		}
		calls = 0
		if _, err := m.Update(Spec{Services: map[string]Policy{"orders": {}}}); err != nil {
			t.Fatal(err)
		}
		if _, number := m.Spec(); calls != 1 || number != 4 {
			t.Errorf("the hook was called %d times, generation %d, want once and 4", calls, number)
		}
	})
}

// A budget that an Update replaces while it is empty is no longer that of anybody: nobody pays into it.
func TestStateTellsOfReplacedBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told events
		spec := func(tokens float64) Spec {
			return Spec{Services: map[string]Policy{"orders": {
				Budget: Budget{Tokens: tokens}, Outlier: Outlier{Mode: Off}, Retry: Retry{Base: time.Millisecond, Max: time.Millisecond}, Idempotent: On,
			}}}
		}
		m := open(t, Config{Resolver: orders(1), Hooks: told.hooks(), Spec: spec(10)})
		b := backend{err: always(errDown)}
		for range 20 {
			_ = b.call(t.Context(), m)
		}
		u := m.known()["orders"].upstream
		if n := len(told.take(time.Now())); n != 1 {
			t.Fatalf("%d events, want that the budget is empty", n)
		}
		if _, err := m.Update(spec(20)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := told.list; len(got) != 1 || got[0].Kind != StateBudgetRestored {
			t.Errorf("after Update: events = %+v, want that the budget is no longer empty", got)
		}
		u.attendance.mu.Lock()
		if u.attendance.running {
			t.Error("somebody still looks after the old budget")
		}
		u.attendance.mu.Unlock()
	})
}

// downAt is a service whose endpoints with these addresses fail.
func downAt(addrs ...string) *backend {
	return &backend{err: func(addr string) error {
		if slices.Contains(addrs, addr) {
			return errDown
		}
		return nil
	}}
}

func TestStateTellsOfPanicAndSpill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told events
		eps := endpoints(4)
		eps[2].Priority, eps[3].Priority = 1, 1
		m := open(t, Config{Resolver: discovery.Static{"orders": eps}, Hooks: told.hooks(), Spec: Spec{Defaults: Policy{
			Outlier: Outlier{Consecutive: 3, Ejection: time.Second, Jitter: -1, MaxEjected: 1}, Budget: Budget{Mode: Off}, Retry: Retry{Mode: Off},
			Balance: "random", SlowStart: SlowStart{Mode: Off}, Panic: 0.6,
		}}})
		kinds := func() (got []StateKind) {
			synctest.Wait()
			told.mu.Lock()
			defer told.mu.Unlock()
			for _, ev := range told.list {
				got = append(got, ev.Kind)
				if ev.Kind == StateSpillBegan && (ev.Value < 0.2 || ev.Value > 1) || ev.Endpoints != 4 {
					t.Errorf("event = %+v", ev)
				}
			}
			told.list = nil
			return got
		}
		call := func(b *backend) {
			for range 100 {
				_ = b.call(t.Context(), m)
			}
		}
		call(downAt(eps[0].Addr))
		if got := kinds(); !slices.Equal(got, []StateKind{StateEjected, StateSpillBegan}) {
			t.Errorf("one is down: events = %q", got)
		}
		call(downAt(eps[1].Addr, eps[2].Addr))
		if got := kinds(); !slices.Contains(got, StatePanicBegan) || !m.State().Services[0].Panicking {
			t.Errorf("three are down: events = %q, panicking %v", got, m.State().Services[0].Panicking)
		}
		for range 3 {
			time.Sleep(3 * time.Second)
			call(downAt())
		}
		if got := kinds(); !slices.Contains(got, StatePanicEnded) || !slices.Contains(got, StateSpillEnded) || m.State().Services[0].Panicking {
			t.Errorf("all are up: events = %q, panicking %v", got, m.State().Services[0].Panicking)
		}
	})
}

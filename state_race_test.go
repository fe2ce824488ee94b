package zerohop

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
)

// State is read, operators act, the spec and the endpoints change and calls fail, all at once: events of the service stay one at a time.
func TestStateWhileEverythingChanges(t *testing.T) {
	sets := make(chan []discovery.Endpoint)
	var telling, told atomic.Int32
	news := make(chan struct{}, 1)
	m := open(t, Config{Resolver: fed(sets), Discovery: Discovery{EmptyGrace: -1}, Hooks: Hooks{State: func(string, StateEvent) {
		if telling.Add(1) != 1 {
			t.Error("two events are told at once")
		}
		told.Add(1)
		telling.Add(-1)
		select {
		case news <- struct{}{}:
		default:
		}
	}}, Spec: Spec{Services: map[string]Policy{"orders": {ServiceBreaker: Breaker{Mode: On}, Breaker: Breaker{Mode: On}}}}})
	all := endpoints(4)
	sets <- all
	if err := ping(t.Context(), m, "orders"); err != nil {
		t.Fatal(err)
	}
	b := backend{err: func(addr string) error {
		if addr == all[1].Addr {
			return errDown
		}
		return nil
	}}
	op := Operation{Service: "orders", For: time.Millisecond}
	at := op
	at.Addr = all[0].Addr
	const rounds = 50
	var wg sync.WaitGroup
	for _, do := range []func(i int){
		func(int) { _ = b.call(t.Context(), m) },
		func(int) {
			if st := m.State(); len(st.Services) != 1 {
				t.Errorf("State() = %+v", st)
			}
		},
		func(int) { _ = m.Eject(at) },
		func(int) { _ = m.Drain(at) },
		func(int) { _ = m.PauseRetries(op) },
		func(int) { _ = m.Release(at) },
		func(i int) {
			_ = m.ForceBreakerFor(op, []resilience.BreakerState{resilience.BreakerForcedOpen, resilience.BreakerDisabled}[i%2])
		},
		func(int) { _ = m.ForceBreaker("orders", resilience.BreakerClosed) },
		func(i int) {
			p := Policy{ServiceBreaker: Breaker{Mode: []Switch{On, Off}[i%2]}}
			if _, err := m.Update(Spec{Services: map[string]Policy{"orders": p}}); err != nil {
				t.Error(err)
			}
		},
		func(i int) {
			if i < 3 { // sets change ten times a second at most
				sets <- all[:3+i%2]
			}
		},
	} {
		wg.Go(func() {
			for i := range rounds {
				do(i)
			}
		})
	}
	wg.Wait()
	for len(m.State().Services[0].Operations) > 0 {
		<-news // each of them is told when it ends
	}
	if st := m.State().Services[0]; len(st.Operations) > 0 || !st.RetriesPaused.IsZero() || told.Load() == 0 {
		t.Errorf("in the end: %+v, %d events", st, told.Load())
	}
}

package zerohop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// events are those that Hooks.State was told of.
type events struct {
	mu   sync.Mutex
	list []StateEvent
}

func (e *events) hooks() Hooks {
	return Hooks{State: func(_ string, ev StateEvent) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.list = append(e.list, ev)
	}}
}

// take returns them in a few words, once all are told, and forgets them.
func (e *events) take(start time.Time) (list []string) {
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range e.list {
		s := fmt.Sprintf("%v %s", ev.Time.Sub(start), ev.Kind)
		for _, part := range []string{ev.Addr, ev.Cause, string(ev.To), ev.By, ev.Why} {
			if part != "" {
				s += " " + part
			}
		}
		if !ev.Until.IsZero() {
			s += fmt.Sprintf(" until %v", ev.Until.Sub(start))
		}
		list = append(list, s)
	}
	e.list = nil
	return list
}

func (e *events) expect(t *testing.T, start time.Time, want ...string) {
	t.Helper()
	if got := e.take(start); !slices.Equal(got, want) {
		t.Errorf("events = %q, want %q", got, want)
	}
}

func TestOperationsAreChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(2)})
		if err := ping(t.Context(), m, "orders"); err != nil {
			t.Fatal(err)
		}
		good := Operation{Service: "orders", For: time.Minute}
		at := good
		at.Addr = "10.0.0.1:80"
		with := func(op Operation, change func(*Operation)) Operation { change(&op); return op }
		pause := m.PauseRetries
		open := func(op Operation) error { return m.ForceBreakerFor(op, resilience.BreakerForcedOpen) }
		for _, tt := range []struct {
			name string
			do   func(Operation) error
			op   Operation
			want string
			is   error
		}{
			{"no service", pause, with(good, func(o *Operation) { o.Service = "" }), "service: must be set", nil},
			{"another service", pause, with(good, func(o *Operation) { o.Service = "other" }), `"other"`, discovery.ErrUnknownService},
			{"no time", pause, with(good, func(o *Operation) { o.For = 0 }), "for: must be more than 0", nil},
			{"a negative time", m.Eject, with(at, func(o *Operation) { o.For = -1 }), "for: must be more than 0", nil},
			{"too much time", m.Drain, with(at, func(o *Operation) { o.For = MaxOperation + 1 }), "at most 24h0m0s", nil},
			{"no address", m.Eject, good, "addr: must be set", nil},
			{"another address", m.Eject, with(at, func(o *Operation) { o.Addr = "10.0.0.9:80" }), `"10.0.0.9:80"`, loadbalance.ErrNoNode},
			{"an address", pause, at, "addr: must be empty", nil},
			{"an address for a breaker", open, at, "addr: must be empty", nil},
			{"a long name", pause, with(good, func(o *Operation) { o.By = strings.Repeat("x", 257) }), "by: must have at most 256", nil},
			{"a long reason", pause, with(good, func(o *Operation) { o.Why = strings.Repeat("x", 1025) }), "why: must have at most 1024", nil},
			{"a state that does not last", func(op Operation) error { return m.ForceBreakerFor(op, resilience.BreakerOpen) }, good, "state: must be", nil},
			{"nothing to release", m.Release, at, "no such operation", ErrNoOperation},
			{"release of another service", m.Release, with(good, func(o *Operation) { o.Service = "other" }), `"other"`, discovery.ErrUnknownService},
		} {
			err := tt.do(tt.op)
			if err == nil || !strings.Contains(err.Error(), tt.want) || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%s: error = %v, want %q and %v", tt.name, err, tt.want, tt.is)
			}
		}
		if st := m.State(); len(st.Services) != 1 || len(st.Services[0].Operations) != 0 {
			t.Errorf("State() = %+v, want nothing in force", st.Services)
		}
		m.Close()
		if err := m.PauseRetries(good); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v, want ErrClosed", err)
		}
	})
}

func TestPauseRetriesStopsAllButFirstAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told events
		m := open(t, Config{Resolver: orders(3), Hooks: told.hooks()})
		b := backend{err: always(&ClassifiedError{Verdict: resilience.Verdict{Outcome: resilience.Failure, Retry: true, Unsent: true}, Err: errDown})}
		_ = b.call(t.Context(), m)
		start := time.Now()
		if err := m.PauseRetries(Operation{Service: "Orders", For: time.Minute, By: "kim", Why: "storm"}); err != nil {
			t.Fatal(err)
		}
		b.sent = 0
		e := failure(t, b.call(t.Context(), m))
		if b.sent != 1 || e.Detail != resilience.Paused || len(e.Attempts) != 1 {
			t.Errorf("%d sent, error %+v, want one attempt", b.sent, e)
		}
		st := m.State().Services[0]
		want := []OperationState{{Action: ActionPauseRetries, Since: start, Until: start.Add(time.Minute), By: "kim", Why: "storm"}}
		if !slices.Equal(st.Operations, want) || !st.RetriesPaused.Equal(start.Add(time.Minute)) {
			t.Errorf("State() = %+v until %v, want %+v", st.Operations, st.RetriesPaused, want)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		b.sent = 0
		if e := failure(t, b.call(t.Context(), m)); b.sent != 3 || e.Detail != resilience.Exhausted {
			t.Errorf("afterwards: %d sent, error %+v, want all attempts", b.sent, e)
		}
		if st := m.State().Services[0]; len(st.Operations) != 0 || !st.RetriesPaused.IsZero() {
			t.Errorf("afterwards: State() = %+v", st)
		}
		told.expect(t, start, "0s operator pause retries kim storm until 1m0s", "1m0s operator_ended pause retries kim storm")
	})
}

func TestPauseRetriesConcernsCallsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(3)})
		if err := ping(t.Context(), m, "orders"); err != nil {
			t.Fatal(err)
		}
		ctx := WithCall(t.Context(), CallOptions{Idempotent: On})
		sent := 0
		done := make(chan error)
		go func() {
			_, err := Do(ctx, m, "orders", func(context.Context, *loadbalance.Node) (int, error) {
				sent++
				time.Sleep(10 * time.Second) // backups would join it
				return 0, errDown
			})
			done <- err
		}()
		synctest.Wait()
		if err := m.PauseRetries(Operation{Service: "orders", For: time.Minute}); err != nil {
			t.Fatal(err)
		}
		e := failure(t, <-done)
		if sent != 1 || e.Detail != resilience.Paused {
			t.Errorf("%d sent, error %+v, want one attempt", sent, e)
		}
	})
}

func TestForceBreakerForEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told events
		m := open(t, Config{Resolver: orders(2), Hooks: told.hooks()})
		if err := ping(t.Context(), m, "orders"); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		op := Operation{Service: "orders", For: time.Minute, By: "kim"}
		if err := m.ForceBreakerFor(op, resilience.BreakerForcedOpen); err != nil {
			t.Fatal(err)
		}
		if e := failure(t, ping(t.Context(), m, "orders")); e.Reason != BreakerOpen {
			t.Errorf("error = %v, want that of the breaker", e)
		}
		if st := m.State().Services[0]; st.Breaker != resilience.BreakerForcedOpen || !st.BreakerForced.Equal(start.Add(time.Minute)) {
			t.Errorf("State() = %+v", st)
		}
		spec, _ := m.Spec()
		spec.Services = map[string]Policy{"orders": {ServiceBreaker: Breaker{Mode: On}}}
		if _, err := m.Update(spec); err != nil {
			t.Fatal(err)
		}
		if e := failure(t, ping(t.Context(), m, "orders")); e.Reason != BreakerOpen {
			t.Errorf("after Update: error = %v, want that of the breaker", e)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if err := ping(t.Context(), m, "orders"); err != nil {
			t.Errorf("afterwards: %v", err)
		}
		told.expect(t, start,
			"0s operator force breaker forced-open kim until 1m0s", "0s breaker_opened operator forced-open", "0s shedding breaker",
			"10s shedding_ended breaker", "1m0s breaker_closed operator closed", "1m0s operator_ended force breaker forced-open kim")
		if state, _ := m.BreakerState("orders"); state != resilience.BreakerClosed {
			t.Errorf("BreakerState() = %q, want that of the policy", state)
		}
	})
}

func TestForceBreakerOutlivesForceBreakerFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told events
		m := open(t, Config{Resolver: orders(2), Hooks: told.hooks()})
		if err := ping(t.Context(), m, "orders"); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		op := Operation{Service: "orders", For: time.Minute, By: "kim"}
		force := func(want resilience.BreakerState, err error) {
			t.Helper()
			if state, _ := m.BreakerState("orders"); err != nil || state != want {
				t.Errorf("BreakerState() = %q, %v, want %q", state, err, want)
			}
		}
		force(resilience.BreakerDisabled, m.ForceBreaker("orders", resilience.BreakerDisabled))
		force(resilience.BreakerForcedOpen, m.ForceBreakerFor(op, resilience.BreakerForcedOpen))
		time.Sleep(time.Minute)
		synctest.Wait()
		force(resilience.BreakerDisabled, nil)
		force(resilience.BreakerForcedOpen, m.ForceBreakerFor(op, resilience.BreakerForcedOpen))
		force("", m.ForceBreaker("orders", resilience.BreakerClosed))
		if st := m.State().Services[0]; len(st.Operations) > 0 || !st.BreakerForced.IsZero() {
			t.Errorf("State() = %+v, want that ForceBreaker ended the operation", st)
		}
		told.expect(t, start,
			"0s operator force breaker forced-open kim until 1m0s", "0s breaker_opened operator forced-open",
			"1m0s breaker_closed operator disabled", "1m0s operator_ended force breaker forced-open kim",
			"1m0s operator force breaker forced-open kim until 2m0s", "1m0s breaker_opened operator forced-open",
			"1m0s breaker_closed operator closed", "1m0s operator_ended force breaker forced-open kim")
	})
}

func TestReleaseEndsOperations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told events
		m := open(t, Config{Resolver: orders(2), Hooks: told.hooks()})
		if err := ping(t.Context(), m, "orders"); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		op := Operation{Service: "orders", For: time.Minute, By: "kim"}
		if err := errors.Join(m.PauseRetries(op), m.ForceBreakerFor(op, resilience.BreakerForcedOpen)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := m.Release(Operation{Service: "orders", Action: ActionForceBreaker, By: "lee", Why: "calm"}); err != nil {
			t.Fatal(err)
		}
		if st := m.State().Services[0]; len(st.Operations) != 1 || st.Operations[0].Action != ActionPauseRetries || st.Breaker != "" {
			t.Errorf("State() = %+v, want the other one", st)
		}
		if err := m.Release(Operation{Service: "orders", By: "lee"}); err != nil {
			t.Fatal(err)
		}
		if err := m.Release(Operation{Service: "orders"}); !errors.Is(err, ErrNoOperation) {
			t.Errorf("again: %v, want ErrNoOperation", err)
		}
		told.expect(t, start, "0s operator pause retries kim until 1m0s",
			"0s operator force breaker forced-open kim until 1m0s", "0s breaker_opened operator forced-open",
			"1s breaker_closed operator closed", "1s operator_ended force breaker forced-open lee calm", "1s operator_ended pause retries lee")
	})
}

// fed is a resolver that hands on the sets that it is sent.
func fed(sets <-chan []discovery.Endpoint) resolverFunc {
	return func(ctx context.Context, _ string, update func([]discovery.Endpoint)) error {
		for {
			select {
			case eps := <-sets:
				update(eps)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

func TestEjectKeepsCallsAwayThroughUpdates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told events
		sets := make(chan []discovery.Endpoint)
		m := open(t, Config{Resolver: fed(sets), Hooks: told.hooks(), Discovery: Discovery{EmptyGrace: -1}})
		all := endpoints(3)
		all[0].Zone = "a"
		go m.service("orders")
		sets <- all
		synctest.Wait()
		picked := func() map[string]int {
			seen := map[string]int{}
			for range 50 {
				_, err := Do(t.Context(), m, "orders", func(_ context.Context, n *loadbalance.Node) (int, error) { seen[n.Addr()]++; return 0, nil })
				if err != nil {
					t.Fatal(err)
				}
			}
			return seen
		}
		start := time.Now()
		addr := all[0].Addr
		if err := m.Eject(Operation{Service: "orders", Addr: addr, For: time.Minute, By: "kim"}); err != nil {
			t.Fatal(err)
		}
		if n := picked()[addr]; n > 0 {
			t.Errorf("%d calls went to the endpoint", n)
		}
		ep := m.State().Services[0].Endpoints[0]
		if !ep.OutUntil.Equal(start.Add(time.Minute)) || ep.Draining || ep.Share != 0 || ep.Picks != 0 {
			t.Errorf("State() = %+v", ep)
		}
		spec, _ := m.Spec()
		spec.Services = map[string]Policy{"orders": {Balance: "random", SlowStart: SlowStart{Mode: Off}}}
		if _, err := m.Update(spec); err != nil {
			t.Fatal(err)
		}
		sets <- all[1:]
		synctest.Wait()
		time.Sleep(time.Second)
		if st := m.State().Services[0]; len(st.Endpoints) != 2 || len(st.Operations) != 1 {
			t.Errorf("without the endpoint: State() = %+v", st)
		}
		sets <- all
		time.Sleep(time.Second)
		synctest.Wait()
		if n := picked()[addr]; n > 0 {
			t.Errorf("%d calls went to the endpoint after the updates", n)
		}
		time.Sleep(58 * time.Second)
		synctest.Wait()
		if n := picked()[addr]; n == 0 {
			t.Error("no calls went to the endpoint after a minute")
		}
		if ep := m.State().Services[0].Endpoints[0]; !ep.OutUntil.IsZero() || ep.Share == 0 || ep.Picks == 0 {
			t.Errorf("afterwards: State() = %+v", ep)
		}
		told.expect(t, start, "0s operator "+addr+" eject kim until 1m0s", "1m0s operator_ended "+addr+" eject kim")
	})
}

func TestDrainReplacesEject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told events
		m := open(t, Config{Resolver: orders(2), Hooks: told.hooks()})
		if err := ping(t.Context(), m, "orders"); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		addr := endpoints(1)[0].Addr
		op := Operation{Service: "orders", Addr: addr, For: time.Minute}
		if err := m.Eject(op); err != nil {
			t.Fatal(err)
		}
		op.For = time.Hour
		if err := m.Drain(op); err != nil {
			t.Fatal(err)
		}
		last := op
		last.Addr = endpoints(2)[1].Addr
		if err := m.Eject(last); !errors.Is(err, ErrLastEndpoint) {
			t.Errorf("Eject of the last one: %v, want ErrLastEndpoint", err)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		st := m.State().Services[0]
		if ep := st.Endpoints[0]; len(st.Operations) != 1 || !ep.Draining || !ep.OutUntil.Equal(start.Add(time.Hour)) {
			t.Errorf("State() = %+v, want that it drains for an hour", st)
		}
		if err := m.Release(op); err != nil {
			t.Fatal(err)
		}
		told.expect(t, start, "0s operator "+addr+" eject until 1m0s", "0s operator_ended "+addr+" eject", "0s operator "+addr+" drain until 1h0m0s", "2m0s operator_ended "+addr+" drain")
	})
}

// Neither names that anybody makes up nor an Update that no longer names the service undo what an operator did to it.
func TestOperationsKeepTheirService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told events
		m := open(t, Config{Resolver: orders(1), Hooks: told.hooks(), Spec: Spec{Services: map[string]Policy{"orders": {}, "api.example.com": {}}}})
		start := time.Now()
		for _, name := range []string{"orders", "api.example.com"} {
			if err := m.ForceBreakerFor(Operation{Service: name, For: time.Hour}, resilience.BreakerForcedOpen); err != nil {
				t.Fatal(err)
			}
		}
		told.take(start)
		time.Sleep(2 * forgetAfter)
		if _, err := m.Update(Spec{Services: map[string]Policy{"other": {}}}); err != nil {
			t.Fatal(err)
		}
		// That of a host is none any more, and what was done to it ends with it.
		told.expect(t, start, "10m0s breaker_closed operator closed", "10m0s operator_ended force breaker forced-open")
		for i := range maxDynamicServices {
			_, _ = m.find(fmt.Sprint("made-up-", i))
		}
		if e := failure(t, ping(t.Context(), m, "orders")); e.Reason != BreakerOpen {
			t.Errorf("error = %v, want that of the breaker that was forced open", e)
		}
		time.Sleep(time.Hour)
		if err := ping(t.Context(), m, "orders"); err != nil {
			t.Errorf("after an hour: %v", err)
		}
		time.Sleep(time.Minute)
		for i := range maxDynamicServices + 1 {
			_, _ = m.find(fmt.Sprint("made-up-later-", i))
		}
		if m.known()["orders"] != nil {
			t.Error("a service goes on on which no operation is in force any more")
		}
	})
}

// What is over before it could begin is no error: it has ended, as all operations do.
func TestOperationsOfAnInstant(t *testing.T) {
	var told events
	m := open(t, Config{Resolver: orders(3), Hooks: told.hooks()})
	if err := ping(t.Context(), m, "orders"); err != nil {
		t.Fatal(err)
	}
	op := Operation{Service: "orders", For: 1}
	for _, ep := range endpoints(3) { // all of them: none is out when the next one is
		op.Addr = ep.Addr
		if err := m.Eject(op); err != nil {
			t.Errorf("Eject() = %v", err)
		}
		op.Addr = ""
		if err := m.PauseRetries(op); err != nil {
			t.Errorf("PauseRetries() = %v", err)
		}
	}
	if err := ping(t.Context(), m, "orders"); err != nil {
		t.Error(err)
	}
}

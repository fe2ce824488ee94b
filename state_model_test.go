package zerohop

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// ledger adds up what Hooks.State tells.
type ledger struct {
	mu    sync.Mutex
	state map[string]bool // what is the case
	bad   []string
	last  time.Time
	told  int
}

func (l *ledger) add(_ string, ev StateEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.told++; ev.Time.Before(l.last) {
		l.bad = append(l.bad, fmt.Sprintf("%s of %v after one of %v", ev.Kind, ev.Time, l.last))
	}
	l.last = ev.Time
	breaker := "breaker of " + ev.Addr
	switch ev.Kind {
	case StateEjected: // again if the probe failed
		l.state["ejected "+ev.Addr] = true
	case StateReturned:
		l.drop("ejected " + ev.Addr)
	case StatePanicBegan:
		l.put("panic")
	case StatePanicEnded:
		l.drop("panic")
	case StateBreakerOpened:
		delete(l.state, breaker+" half")
		l.put(breaker + " open")
	case StateBreakerHalfOpened:
		delete(l.state, breaker+" open")
		l.put(breaker + " half")
	case StateBreakerClosed:
		if !l.state[breaker+" open"] && !l.state[breaker+" half"] {
			l.bad = append(l.bad, breaker+" closed twice")
		}
		delete(l.state, breaker+" open")
		delete(l.state, breaker+" half")
	case StateOperator: // again if it was renewed
		l.state[ev.Cause+" "+ev.Addr] = true
	case StateOperatorEnded:
		l.drop(ev.Cause + " " + ev.Addr)
	}
}

func (l *ledger) put(what string) {
	if l.state[what] {
		l.bad = append(l.bad, what+" twice")
	}
	l.state[what] = true
}

func (l *ledger) drop(what string) {
	if !l.state[what] {
		l.bad = append(l.bad, "end of "+what+", which was not")
	}
	delete(l.state, what)
}

// sum returns what is the case. State has a breaker half open as soon as its time is up, and is right; that is told when a call comes.
func (l *ledger) sum() map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	sum := map[string]bool{}
	for what := range l.state {
		sum[strings.TrimSuffix(strings.TrimSuffix(what, " open"), " half")] = true
	}
	return sum
}

func sumOf(st *ServiceState) map[string]bool {
	sum := map[string]bool{}
	breaker := func(addr string, b resilience.BreakerState) {
		switch b {
		case resilience.BreakerOpen, resilience.BreakerForcedOpen, resilience.BreakerHalfOpen:
			sum["breaker of "+addr] = true
		}
	}
	breaker("", st.Breaker)
	if st.Panicking {
		sum["panic"] = true
	}
	for _, ep := range st.Endpoints {
		if !ep.EjectedUntil.IsZero() {
			sum["ejected "+ep.Addr] = true
		}
		breaker(ep.Addr, ep.Breaker)
	}
	for _, o := range st.Operations {
		sum[string(o.Action)+" "+o.Addr] = true
	}
	return sum
}

// What the events of a service say, taken together, is what State says, whatever operators do and endpoints go through.
func TestStateIsTheSumOfItsEvents(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(seed, 3))
				var mu sync.Mutex
				own := rand.New(rand.NewPCG(seed, 4))
				draw := func() uint64 { // also by who ends operations
					mu.Lock()
					defer mu.Unlock()
					return own.Uint64()
				}
				l := &ledger{state: map[string]bool{}}
				all := endpoints(5)
				spec := func() Spec {
					p := Policy{Outlier: Outlier{Consecutive: 2, MaxEjected: 1}, Retry: Retry{Mode: []Switch{On, Off}[rnd.IntN(2)]}}
					p.Breaker, p.ServiceBreaker = Breaker{Mode: On, Consecutive: 3}, Breaker{Mode: On, Consecutive: 6}
					return Spec{Services: map[string]Policy{"orders": p}}
				}
				m := open(t, Config{Resolver: orders(5), Rand: draw, Spec: spec(), Hooks: Hooks{State: l.add}})
				bad := map[string]bool{}
				b := backend{err: func(addr string) error {
					if bad[addr] {
						return errDown
					}
					return nil
				}}
				_ = b.call(t.Context(), m)
				var past []string
				for range 300 {
					addr := all[rnd.IntN(len(all))].Addr
					length := time.Duration(1+rnd.IntN(20)) * time.Second
					op := Operation{Service: "orders", For: length}
					at := op
					at.Addr = addr
					what := ""
					switch n := rnd.IntN(12); n {
					case 0:
						what = fmt.Sprint("eject ", addr, m.Eject(at))
					case 1:
						what = fmt.Sprint("drain ", addr, m.Drain(at))
					case 2:
						what = fmt.Sprint("pause ", m.PauseRetries(op))
					case 3:
						to := []resilience.BreakerState{resilience.BreakerForcedOpen, resilience.BreakerDisabled, resilience.BreakerMetricsOnly}[rnd.IntN(3)]
						what = fmt.Sprint("force for ", to, m.ForceBreakerFor(op, to))
					case 4:
						to := []resilience.BreakerState{resilience.BreakerForcedOpen, resilience.BreakerClosed, resilience.BreakerOpen, resilience.BreakerHalfOpen}[rnd.IntN(4)]
						what = fmt.Sprint("force ", to, m.ForceBreaker("orders", to))
					case 5:
						what = fmt.Sprint("release ", m.Release(op))
					case 6:
						what = fmt.Sprint("release ", addr, m.Release(at))
					case 7:
						_, err := m.Update(spec())
						what = fmt.Sprint("update ", err)
					case 8:
						bad[addr] = !bad[addr]
						what = fmt.Sprint("bad ", addr, bad[addr])
					case 9:
						time.Sleep(time.Duration(rnd.IntN(8000)) * time.Millisecond)
						what = "sleep"
					default:
						for range 10 {
							_ = b.call(t.Context(), m)
						}
						what = "calls"
					}
					past = append(past, what)
					synctest.Wait()
					st := m.State().Services[0]
					if sum, told := sumOf(&st), l.sum(); !maps.Equal(sum, told) || len(l.bad) > 0 {
						t.Fatalf("State has %v, its events %v, wrong %v after %v", slices.Sorted(maps.Keys(sum)), slices.Sorted(maps.Keys(told)), l.bad, past[max(len(past)-12, 0):])
					}
				}
				if l.told < 50 {
					t.Errorf("%d events", l.told)
				}
			})
		})
	}
}

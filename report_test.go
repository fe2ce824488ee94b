package zerohop

import (
	"context"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

func TestReportTellsWhyEachAttemptWasMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := idempotent
		spec.Routes = []routing.Rule{{Name: "reads", Match: routing.Match{Service: "orders"}}}
		m := open(t, Config{Resolver: orders(4), Spec: spec})
		ctx, report := WithReport(t.Context())
		ctx = WithCall(ctx, CallOptions{Attempts: 4}) // which leaves the report in place
		refused := &net.OpError{Op: "dial", Err: errDown}
		start := time.Now()
		var result int
		var call sync.WaitGroup
		call.Go(func() {
			result, _ = Do(ctx, m, "orders", turns(after(10*time.Millisecond, refused), after(20*time.Millisecond, errDown), hang, after(5*time.Millisecond, nil)))
		})
		time.Sleep(500 * time.Millisecond)
		want := CallRecord{
			CallInfo: CallInfo{Service: "orders", Host: "orders", Route: "reads", Backend: -1, Criticality: resilience.Critical, Start: start},
			Running:  true,
			Attempts: []AttemptRecord{
				{Cause: resilience.First, Duration: 10 * time.Millisecond, Outcome: resilience.Failure, Status: -1, Err: refused},
				{Cause: resilience.Resend, Start: 10 * time.Millisecond, Duration: 20 * time.Millisecond, Outcome: resilience.Failure, Status: -1, Err: errDown},
				{Cause: resilience.Repeat, Start: 30 * time.Millisecond, Running: true, Duration: 470 * time.Millisecond, Outcome: resilience.Neutral, Status: -1},
			},
		}
		check := func(when string) {
			t.Helper()
			got := report.Calls()
			if len(got) != 1 {
				t.Fatalf("%s: %d calls, want 1", when, len(got))
			}
			seen := map[string]bool{}
			for _, a := range got[0].Attempts {
				seen[a.Addr] = true
			}
			if len(seen) != len(want.Attempts) || seen[""] {
				t.Errorf("%s: attempts on %v, want %d endpoints", when, seen, len(want.Attempts))
			}
			opts := []cmp.Option{
				cmpopts.EquateErrors(), cmpopts.IgnoreFields(AttemptRecord{}, "Addr"),
				cmpopts.EquateApproxTime(time.Microsecond),
				cmp.Comparer(func(a, b time.Duration) bool { return (a - b).Abs() < time.Microsecond }), // the pauses are of 1 ns
			}
			if diff := cmp.Diff(want, got[0], opts...); diff != "" {
				t.Errorf("%s (-want +got):\n%s", when, diff)
			}
		}
		check("half a second into the call")

		call.Wait()
		synctest.Wait()
		if result != 3 {
			t.Fatalf("the answer is that of attempt %d, want 3", result)
		}
		want.Running = false
		hung := &want.Attempts[2]
		hung.Running, hung.Duration, hung.Err = false, 1005*time.Millisecond, context.Canceled
		want.Attempts = append(want.Attempts, AttemptRecord{
			Cause: resilience.Backup, Start: 1030 * time.Millisecond, Duration: 5 * time.Millisecond, Outcome: resilience.Success, Status: -1,
		})
		check("after the call")
	})
}

func TestReportOfCallsThatFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(2), Spec: idempotent})
		ctx, report := WithReport(t.Context())
		if _, err := Do(ctx, m, "nobody", turns()); err == nil {
			t.Error("a call of nobody succeeded")
		}
		_, err := Do(ctx, m, "orders", turns(after(0, errDown), after(0, errDown), after(time.Millisecond, errDown)))
		e := failure(t, err)
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, _ = Do(short, m, "orders", turns(func(context.Context) error { time.Sleep(2 * time.Second); return nil }))
		calls := report.Calls()
		if len(calls) != 3 {
			t.Fatalf("%d calls, want 3", len(calls))
		}
		if c := calls[0]; c.Running || c.Service != "nobody" || c.Detail != resilience.Unroutable || len(c.Attempts) != 0 {
			t.Errorf("call of nobody = %+v", c)
		}
		if c := calls[1]; c.Running || c.Detail != resilience.Exhausted || !cmp.Equal(c.Attempts, e.Attempts, cmpopts.EquateErrors()) {
			t.Errorf("call that failed = %+v, want the attempts of its error, %+v", c, e.Attempts)
		}
		for i, want := range []resilience.Cause{resilience.First, resilience.Repeat, resilience.Repeat} {
			if got := e.Attempts[i].Cause; got != want {
				t.Errorf("cause of attempt %d = %v, want %v", i, got, want)
			}
		}
	})
}

func TestReportKeepsTheLastCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(1)})
		ctx, report := WithReport(t.Context())
		for range maxReported + 5 {
			if _, err := Do(ctx, m, "orders", turns(after(0, nil))); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		calls := report.Calls()
		if len(calls) != maxReported {
			t.Fatalf("%d calls, want the last %d", len(calls), maxReported)
		}
		if got, want := calls[maxReported-1].Start.Sub(calls[0].Start), (maxReported-1)*time.Second; got != want || time.Since(calls[maxReported-1].Start) != time.Second {
			t.Errorf("calls of %v, want the last %v", got, want)
		}
	})
}

// Calls are read while they retry, get backups, end and are cancelled.
func TestReportIsReadWhileCallsRun(t *testing.T) {
	m := open(t, Config{Resolver: orders(4), Spec: Spec{Defaults: Policy{
		Idempotent: On, Budget: Budget{Mode: Off}, Backup: Backup{Min: time.Millisecond, Factor: 1},
		Retry: Retry{Attempts: 5, Base: time.Microsecond, Max: time.Microsecond}, AttemptTimeout: 20 * time.Millisecond,
	}}})
	ctx, report := WithReport(t.Context())
	done := make(chan struct{})
	var reader, callers sync.WaitGroup
	reads, causes := 0, map[resilience.Cause]int{}
	reader.Go(func() {
		for {
			for _, c := range report.Calls() {
				for i, a := range c.Attempts {
					causes[a.Cause]++
					if a.Duration < 0 || a.Start < 0 || (i == 0) != (a.Cause == resilience.First) || a.Running && a.Err != nil {
						t.Errorf("attempt %d of %+v = %+v", i, c.CallInfo, a)
					}
				}
			}
			reads++
			select {
			case <-done:
				return
			default:
			}
		}
	})
	for range 4 {
		callers.Go(func() {
			for range 200 {
				ctx, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(5000))*time.Microsecond)
				_, err := Do(ctx, m, "orders", func(ctx context.Context, _ *loadbalance.Node) (int, error) {
					switch rand.IntN(4) {
					case 0:
						return 0, errDown
					case 1:
						return 0, hang(ctx)
					case 2:
						return 0, &net.OpError{Op: "dial", Err: errDown}
					default:
						return 0, nil
					}
				})
				if err != nil {
					failure(t, err)
				}
				cancel()
			}
		})
	}
	callers.Wait()
	close(done)
	reader.Wait()
	m.Close()
	for c := resilience.First; c <= resilience.Backup; c++ {
		if causes[c] == 0 {
			t.Errorf("in %d reads no attempt was seen whose cause was %q", reads, c)
		}
	}
}

func TestCallInfoSaysWhatTheCallWasRoutedBy(t *testing.T) {
	type at struct{ rule, backend int16 }
	var got []at
	m := open(t, Config{
		Resolver: discovery.Static{"a": {{Addr: "10.0.0.1:80"}}, "b": {{Addr: "10.0.0.2:80"}}},
		Spec: Spec{Services: map[string]Policy{"a": {}, "b": {}, "c": {}}, Routes: []routing.Rule{
			{Match: routing.Match{Service: "b"}},
			{Match: routing.Match{Service: "c"}, Backends: []routing.Backend{{Service: "a"}, {Service: "b", Weight: 1}}},
		}},
		Hooks: Hooks{CallDone: func(_ context.Context, c CallInfo, _ CallResult) { got = append(got, at{c.Rule, c.Backend}) }},
	})
	for _, service := range []string{"a", "b", "c"} {
		if _, err := Do(t.Context(), m, service, func(context.Context, *loadbalance.Node) (int, error) { return 0, nil }); err != nil {
			t.Fatal(err)
		}
	}
	if want := []at{{-1, -1}, {0, -1}, {1, 1}}; !slices.Equal(got, want) {
		t.Errorf("rule and backend = %v, want %v", got, want)
	}
}

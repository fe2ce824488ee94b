package zerohop

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

func TestInject(t *testing.T) {
	const s = time.Second
	half, none, all := 50.0, 0.0, 100.0
	low, high := uint64(0), uint64(math.MaxUint64)
	asking := func(kv ...string) http.Header {
		h := http.Header{}
		for i := 0; i < len(kv); i += 2 {
			h.Set(kv[i], kv[i+1])
		}
		return h
	}
	for _, c := range []struct {
		name   string
		fault  routing.Fault
		header http.Header
		random []uint64
		want   injection
	}{
		{"nothing", routing.Fault{}, nil, nil, injection{}},
		{"delay", routing.Fault{Delay: s}, nil, nil, injection{delay: s}},
		{"abort", routing.Fault{Abort: 503}, nil, nil, injection{status: 503, code: 14}},
		{"abort with a code", routing.Fault{Abort: 503, AbortCode: 8}, nil, nil, injection{status: 503, code: 8}},
		{"both", routing.Fault{Delay: s, Abort: 404}, nil, nil, injection{delay: s, status: 404, code: 12}},
		{"delay of half, hit", routing.Fault{Delay: s, DelayPercent: &half}, nil, []uint64{low}, injection{delay: s}},
		{"delay of half, missed", routing.Fault{Delay: s, DelayPercent: &half}, nil, []uint64{high}, injection{}},
		{"just below the half", routing.Fault{Abort: 500, AbortPercent: &half}, nil, []uint64{1<<63 - 1}, injection{status: 500, code: 2}},
		{"the half itself", routing.Fault{Abort: 500, AbortPercent: &half}, nil, []uint64{1 << 63}, injection{}},
		{"of none", routing.Fault{Delay: s, DelayPercent: &none, Abort: 500, AbortPercent: &none}, nil, nil, injection{}},
		{"of all", routing.Fault{Delay: s, DelayPercent: &all}, nil, nil, injection{delay: s}},
		{
			"independent", routing.Fault{Delay: s, DelayPercent: &half, Abort: 500, AbortPercent: &half}, nil, []uint64{high, low},
			injection{status: 500, code: 2},
		},
		{"not asked for", routing.Fault{Delay: s, Abort: 500, ByHeader: true}, asking("Zerohop-Fault", "1"), nil, injection{}},
		{"without headers", routing.Fault{ByHeader: true}, nil, nil, injection{}},
		{"a delay asked for", routing.Fault{ByHeader: true}, asking("Zerohop-Fault-Delay", "250"), nil, injection{delay: s / 4}},
		{"less than allowed", routing.Fault{Delay: s, ByHeader: true}, asking("Zerohop-Fault-Delay", "250"), nil, injection{delay: s / 4}},
		{"more than allowed", routing.Fault{Delay: s, ByHeader: true}, asking("Zerohop-Fault-Delay", "2500"), nil, injection{delay: s}},
		{"more than ever", routing.Fault{ByHeader: true}, asking("Zerohop-Fault-Delay", "2147483647"), nil, injection{delay: time.Minute}},
		{"of half of those", routing.Fault{ByHeader: true, DelayPercent: &half}, asking("Zerohop-Fault-Delay", "9"), []uint64{high}, injection{}},
		{"a status asked for", routing.Fault{ByHeader: true}, asking("Zerohop-Fault-Abort", "429"), nil, injection{status: 429, code: 14}},
		{"another one than allowed", routing.Fault{ByHeader: true, Abort: 503}, asking("Zerohop-Fault-Abort", "429"), nil, injection{status: 503, code: 14}},
		{"a code asked for", routing.Fault{ByHeader: true}, asking("Zerohop-Fault-Code", "5"), nil, injection{status: 404, code: 5}},
		{"both asked for", routing.Fault{ByHeader: true}, asking("Zerohop-Fault-Abort", "500", "Zerohop-Fault-Code", "13"), nil, injection{status: 500, code: 13}},
		{"no failure", routing.Fault{ByHeader: true}, asking("Zerohop-Fault-Abort", "200", "Zerohop-Fault-Code", "0"), nil, injection{}},
		{"no such code", routing.Fault{ByHeader: true}, asking("Zerohop-Fault-Code", "17"), nil, injection{}},
		{
			"garbage", routing.Fault{ByHeader: true},
			asking("Zerohop-Fault-Delay", "-1", "Zerohop-Fault-Abort", "5e2", "Zerohop-Fault-Code", "99999999999999999999"), nil, injection{},
		},
	} {
		random := c.random
		draw := func() uint64 {
			if len(random) == 0 {
				t.Fatalf("%s: draws more than %d words", c.name, len(c.random))
			}
			defer func() { random = random[1:] }()
			return random[0]
		}
		var h routing.Values
		if c.header != nil {
			h = c.header
		}
		if got := inject(&c.fault, h, draw); got != c.want || len(random) > 0 {
			t.Errorf("%s: inject() = %+v with %d words left, want %+v", c.name, got, len(random), c.want)
		}
	}
}

func TestPercentagesOfFaultsAreExact(t *testing.T) {
	random := rand.New(rand.NewPCG(8, 1)).Uint64
	for _, percent := range []float64{0.01, 1, 12.5, 99.9} {
		const n = 1_000_000
		hits := 0
		for range n {
			if among(&percent, random) {
				hits++
			}
		}
		// Four standard deviations of a binomial.
		p := percent / 100
		if want, off := n*p, 4*math.Sqrt(n*p*(1-p)); math.Abs(float64(hits)-want) > off {
			t.Errorf("%v %% of a million: %d hits, want %v within %.0f", percent, hits, want, off)
		}
	}
}

// faulty is a spec whose calls to orders come under a rule.
func faulty(r routing.Rule, p Policy) Spec {
	r.Name = "chaos"
	r.Match.Service = "orders"
	return Spec{Defaults: p, Routes: []routing.Rule{r}}
}

// asStepped makes a call that lasts a moment by a Stepped or by Do.
func asStepped(ctx context.Context, m *Mesh, stepped bool, attempts *int) error {
	if !stepped {
		_, err := Do(ctx, m, "orders", func(context.Context, *loadbalance.Node) (int, error) {
			*attempts++
			return 0, nil
		})
		return err
	}
	s := &script{}
	s[0].lasts, s[0].verdict.Outcome = 1, resilience.Success
	a, err := step(ctx, m, &Request{Request: routing.Request{Service: "orders"}}, s)
	if a != nil {
		*attempts++
		a.End(a.Verdict().Outcome, nil)
	}
	return err
}

func TestFaultsComeBeforeEverything(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name     string
		fault    routing.Fault
		policy   Policy
		deadline time.Duration // of the context; less than 0 cancels it
		after    time.Duration
		reason   Reason // of the error, empty if there is none
		result   CallResult
	}{
		{"delay", routing.Fault{Delay: 300 * ms}, Policy{}, 0, 300 * ms, "", CallResult{Attempts: 1, Delayed: 300 * ms}},
		{
			"timeout of the policy begins after it", routing.Fault{Delay: 300 * ms}, Policy{Timeout: 100 * ms}, 0, 300 * ms, "",
			CallResult{Attempts: 1, Delayed: 300 * ms},
		},
		{
			"deadline", routing.Fault{Delay: 300 * ms}, Policy{}, 200 * ms, 200 * ms, Ended,
			CallResult{Status: -1, Outcome: resilience.Neutral, Detail: resilience.Canceled, Delayed: 200 * ms},
		},
		{
			"cancelled", routing.Fault{Delay: 300 * ms}, Policy{}, -200 * ms, 200 * ms, Ended,
			CallResult{Status: -1, Outcome: resilience.Neutral, Detail: resilience.Canceled, Delayed: 200 * ms},
		},
		{
			"abort", routing.Fault{Abort: 503}, Policy{}, 0, 0, Injected,
			CallResult{Status: 503, Outcome: resilience.Failure, Detail: resilience.Injected},
		},
		{
			"abort as the service would refuse", routing.Fault{Abort: 404}, Policy{}, 0, 0, Injected,
			CallResult{Status: 404, Outcome: resilience.Success, Detail: resilience.Injected},
		},
		{
			"delay and abort", routing.Fault{Delay: 300 * ms, Abort: 500}, Policy{}, 0, 300 * ms, Injected,
			CallResult{Status: 500, Outcome: resilience.Failure, Detail: resilience.Injected, Delayed: 300 * ms},
		},
		{
			"abort before a rate limit", routing.Fault{Abort: 500}, Policy{RateLimit: RateLimit{Mode: On, Rate: 0.001, Burst: 1}}, 0, 0, Injected,
			CallResult{Status: 500, Outcome: resilience.Failure, Detail: resilience.Injected},
		},
	} {
		for _, stepped := range []bool{false, true} {
			if stepped && c.deadline < 0 {
				continue // nothing wakes its driver
			}
			synctest.Test(t, func(t *testing.T) {
				var result CallResult
				begun := 0
				m := open(t, Config{
					Resolver: orders(1), Spec: faulty(routing.Rule{Fault: c.fault}, c.policy),
					Hooks: Hooks{
						CallDone: func(_ context.Context, _ CallInfo, r CallResult) { result = r },
						AttemptStart: func(ctx context.Context, _ CallInfo, _ AttemptInfo) context.Context {
							begun++
							return ctx
						},
					},
				})
				synctest.Wait()
				for range 3 { // none of them may take what the next one needs
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					if c.deadline > 0 {
						ctx, cancel = context.WithTimeout(ctx, c.deadline)
						defer cancel()
					} else if c.deadline < 0 {
						defer time.AfterFunc(-c.deadline, cancel).Stop()
					}
					start, made := time.Now(), 0
					begun = 0
					err := asStepped(ctx, m, stepped, &made)
					if got := time.Since(start).Truncate(ms); got != c.after {
						t.Errorf("%s, stepped %v: over after %v, want %v", c.name, stepped, got, c.after)
					}
					if made != c.result.Attempts || begun != made {
						t.Errorf("%s, stepped %v: %d attempts, %d in hooks, want %d", c.name, stepped, made, begun, c.result.Attempts)
					}
					want := c.result
					if c.reason == "" {
						want.Status = result.Status
						if err != nil {
							t.Fatalf("%s, stepped %v: %v", c.name, stepped, err)
						}
					} else {
						e := failure(t, err)
						if e.Reason != c.reason || e.Sent || len(e.Attempts) > 0 || e.Service != "orders" {
							t.Errorf("%s, stepped %v: error = %+v, want Reason %q", c.name, stepped, e, c.reason)
						}
						if answer := Answer(err); (answer != nil) != (c.reason == Injected) || answer != nil && (!answer.Injected || answer.Status != c.fault.Abort || answer.Route != "chaos") {
							t.Errorf("%s, stepped %v: Answer() = %+v", c.name, stepped, answer)
						}
						if result.Err == nil {
							t.Errorf("%s, stepped %v: CallDone was told of no error", c.name, stepped)
						}
					}
					want.Err, want.Duration, want.flag = result.Err, result.Duration, result.flag
					if result != want {
						t.Errorf("%s, stepped %v: CallDone got %+v, want %+v", c.name, stepped, result, want)
					}
				}
				if held := m.present.Load().actions[0].held.Load(); held != 0 {
					t.Errorf("%s, stepped %v: %d calls are held up at rest", c.name, stepped, held)
				}
			})
		}
	}
}

// A caller who bounds his call waits no longer than that.
func TestDelaysAreWithinWhatTheCallerAllows(t *testing.T) {
	for _, stepped := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			m := open(t, Config{Resolver: orders(1), Spec: faulty(routing.Rule{Fault: routing.Fault{Delay: time.Second}}, Policy{Timeout: time.Minute})})
			synctest.Wait()
			start, made := time.Now(), 0
			err := asStepped(WithCall(t.Context(), CallOptions{Timeout: 100 * time.Millisecond}), m, stepped, &made)
			if got := time.Since(start); got != 100*time.Millisecond || !errors.Is(err, context.DeadlineExceeded) || made > 0 {
				t.Errorf("stepped %v: %v after %v and %d attempts, want the end after 100ms", stepped, err, got, made)
			}
		})
	}
}

func TestDelaysTeachNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var attempt AttemptResult
		m := open(t, Config{
			Resolver: orders(1), Spec: faulty(routing.Rule{Fault: routing.Fault{Delay: time.Second}}, Policy{Limit: Limit{Mode: On, Max: 1}}),
			Hooks: Hooks{AttemptDone: func(_ context.Context, _ CallInfo, _ AttemptInfo, r AttemptResult) { attempt = r }},
		})
		synctest.Wait()
		// At the same time: the one that is held up takes no place of the other.
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() {
				_, err := Do(t.Context(), m, "orders", func(context.Context, *loadbalance.Node) (int, error) { return 0, nil })
				if err != nil {
					t.Error(err)
				}
			})
			time.Sleep(500 * time.Millisecond)
		}
		all.Wait()
		if attempt.Latency > 0 || attempt.Duration > 0 {
			t.Errorf("an attempt after a delay took %v, want nothing", attempt.Latency)
		}
	})
}

func TestOnlySoManyCallsAreHeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(1), Spec: faulty(routing.Rule{Fault: routing.Fault{Delay: time.Second, MaxActive: 3}}, Policy{})})
		synctest.Wait()
		for range 2 { // places are given back
			var mu sync.Mutex
			slow, start := 0, time.Now()
			var all sync.WaitGroup
			for range 10 {
				all.Go(func() {
					if err := ping(t.Context(), m, "orders"); err != nil {
						t.Error(err)
					}
					mu.Lock()
					defer mu.Unlock()
					if time.Since(start) > 0 {
						slow++
					}
				})
			}
			all.Wait()
			if slow != 3 {
				t.Errorf("%d calls of 10 are held up, want 3", slow)
			}
		}
	})
}

func TestCloseEndsDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(1), Spec: faulty(routing.Rule{Fault: routing.Fault{Delay: time.Minute}}, Policy{})})
		time.AfterFunc(time.Second, func() { m.Close() })
		start := time.Now()
		if err := ping(t.Context(), m, "orders"); failure(t, err).Reason != Closed || time.Since(start) != time.Second {
			t.Errorf("error after %v = %v, want ErrClosed", time.Since(start), err)
		}
	})
}

func TestFallbackAnswersForFaults(t *testing.T) {
	for status, want := range map[int]string{503: "replica", 429: "replica", 404: ""} {
		synctest.Test(t, func(t *testing.T) {
			spec := faulty(routing.Rule{Fault: routing.Fault{Abort: status, Delay: time.Second}}, Policy{})
			spec.Services = map[string]Policy{"orders": {Timeout: time.Second / 2, Fallback: Substitute{Service: "replica"}}}
			resolver := orders(1)
			resolver["replica"] = endpoints(1)
			m := open(t, Config{Resolver: resolver, Spec: spec})
			got, err := Do(t.Context(), m, "orders", func(ctx context.Context, n *loadbalance.Node) (string, error) {
				if d, ok := ctx.Deadline(); !ok || time.Until(d) != time.Second/2 {
					t.Errorf("%v are left to the fallback, want all of the timeout", time.Until(d))
				}
				return "replica", nil
			})
			if got != want || (err == nil) != (want != "") {
				t.Errorf("abort with %d: Do() = %q, %v, want %q", status, got, err, want)
			}
			m.Close()
		})
	}
}

func TestFixedResponses(t *testing.T) {
	for _, c := range []struct {
		response routing.Response
		protocol string
		want     RouteError
		status   int
		outcome  resilience.Outcome
	}{
		{routing.Response{Body: "later"}, "", RouteError{Status: 200, Code: 2, Body: "later"}, 200, resilience.Success},
		{routing.Response{Status: 410}, "http", RouteError{Status: 410, Code: 2}, 410, resilience.Success},
		{routing.Response{Status: 503, Body: "closed"}, "http", RouteError{Status: 503, Code: 14, Body: "closed"}, 503, resilience.Failure},
		{routing.Response{Status: 503, Code: 7}, "grpc", RouteError{Status: 503, Code: 7}, 7, resilience.Success},
	} {
		synctest.Test(t, func(t *testing.T) {
			var result CallResult
			spec := faulty(routing.Rule{Response: &c.response}, Policy{Fallback: Substitute{Service: "replica"}})
			m := open(t, Config{
				Resolver: orders(0), Spec: spec,
				Hooks: Hooks{CallDone: func(_ context.Context, _ CallInfo, r CallResult) { result = r }},
			})
			x := &exchange{attempt: func(context.Context, *Attempt) resilience.Verdict {
				t.Error("an attempt is made")
				return resilience.Verdict{}
			}}
			start := time.Now()
			r := Request{Request: routing.Request{Service: "orders"}, Protocol: c.protocol}
			_, err := x.Run(t.Context(), m, &r, x)
			e, got := failure(t, err), Answer(err)
			if e.Reason != Fixed || e.Detail != resilience.Fixed || e.Sent || time.Since(start) > 0 {
				t.Errorf("%+v: error = %+v, want Reason Fixed", c.response, e)
			}
			if got.Injected || got.Status != c.want.Status || got.Code != c.want.Code || got.Body != c.want.Body {
				t.Errorf("%+v: Answer() = %+v, want %+v", c.response, got, c.want)
			}
			if result.Status != c.status || result.Outcome != c.outcome || result.Err != nil || result.Attempts != 0 || result.Detail != resilience.Fixed {
				t.Errorf("%+v: CallDone got %+v, want status %d, %v", c.response, result, c.status, c.outcome)
			}
			if _, ok := x.Instead(nil, err, &r); ok {
				t.Errorf("%+v: another service answers instead", c.response)
			}
		})
	}
}

func TestOnlyServicesThatCallsNeedAreLookedUp(t *testing.T) {
	answer := &routing.Response{Status: 410}
	rule := func(service string, r routing.Rule) routing.Rule {
		r.Match.Service = service
		return r
	}
	m := open(t, Config{Resolver: orders(0), Spec: Spec{
		Services: map[string]Policy{"named": {}},
		Routes: []routing.Rule{
			rule("gone", routing.Rule{Response: answer}),
			rule("named", routing.Rule{Response: answer}),
			rule("partly", routing.Rule{Match: routing.Match{Method: "PUT"}, Response: answer}),
			rule("mirrored", routing.Rule{Response: answer}),
			rule("split", routing.Rule{Backends: []routing.Backend{{Service: "elsewhere"}}}),
			rule("copied", routing.Rule{Mirrors: []routing.Mirror{{Service: "Mirrored"}}}),
		},
	}})
	for service, want := range map[string]bool{"gone": false, "named": true, "partly": true, "mirrored": true, "elsewhere": true, "copied": true} {
		if _, got := m.Discovery(service); got != want {
			t.Errorf("%s is looked up: %v, want %v", service, got, want)
		}
	}
	if err := ping(t.Context(), m, "gone"); Answer(err) == nil {
		t.Errorf("error = %v, want the answer of the route", err)
	}
	if _, got := m.Discovery("gone"); got {
		t.Error("a call that its route answers looks the service up")
	}
	m.Close()
}

func BenchmarkInject(b *testing.B) {
	one := 1.0
	f := routing.Fault{Delay: time.Second, DelayPercent: &one, Abort: 503, AbortPercent: &one}
	b.ReportAllocs()
	for b.Loop() {
		inject(&f, nil, rand.Uint64)
	}
}

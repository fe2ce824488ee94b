package zerohop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

func doing(errs ...error) func(context.Context, *loadbalance.Node) (int, error) {
	n := 0
	return func(context.Context, *loadbalance.Node) (int, error) {
		n++
		return n, errs[min(n, len(errs))-1]
	}
}

func TestFailedCallsAreExplained(t *testing.T) {
	dial := &net.OpError{Op: "dial", Net: "tcp", Err: errDown}
	read := &net.OpError{Op: "read", Net: "tcp", Err: errors.New("unexpected EOF")}
	for _, c := range []struct {
		name    string
		policy  Policy
		options CallOptions
		routes  []routing.Rule
		service string
		calls   int // before
		errs    []error
		reason  Reason
		flag    Flag
		tries   int
		stage   Stage
	}{
		{name: "refused", errs: []error{dial}, reason: Failed, flag: FlagRetries, tries: 3},
		{name: "refused once", errs: []error{dial}, options: CallOptions{Attempts: 1}, reason: Failed, flag: FlagConnect, tries: 1},
		{name: "not safe to repeat", errs: []error{read}, reason: Failed, flag: FlagTerminated, tries: 1},
		{name: "unknown failure", errs: []error{errDown}, reason: Failed, flag: FlagStatus, tries: 1},
		{name: "no such service", service: "nobody", errs: []error{nil}, reason: NoEndpoints, flag: FlagNoService},
		{name: "no name", service: strings.Repeat("x", 300), errs: []error{nil}, reason: NoEndpoints, flag: FlagNoService},
		{
			name: "rate limit", policy: Policy{RateLimit: RateLimit{Mode: On, Rate: 1, Burst: 1}}, calls: 1,
			errs: []error{nil}, reason: RateLimited, flag: FlagRateLimited, stage: StageRateLimit,
		},
		{
			name: "service breaker", policy: Policy{ServiceBreaker: Breaker{Mode: On, Consecutive: 1}}, calls: 1,
			errs: []error{errDown}, reason: BreakerOpen, flag: FlagOverflow, tries: 1, stage: StageBreaker,
		},
		{
			name: "endpoints' breakers", policy: Policy{Breaker: Breaker{Mode: On, Consecutive: 1}, Retry: Retry{Mode: Off}}, calls: 30,
			errs: []error{errDown}, reason: Unavailable, flag: FlagOverflow, tries: 1,
		},
		{
			name: "fault", routes: []routing.Rule{{Name: "chaos", Match: routing.Match{Service: "orders"}, Fault: routing.Fault{Abort: 503}}},
			errs: []error{nil}, reason: Injected, flag: FlagFaultInjected,
		},
		{
			name: "fixed", routes: []routing.Rule{{Match: routing.Match{Service: "orders"}, Response: &routing.Response{Status: 200}}},
			errs: []error{nil}, reason: Fixed, flag: FlagNoRoute,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told []*Explanation
				var flags []Flag
				m := open(t, Config{
					Resolver: orders(3), Spec: Spec{Defaults: c.policy, Routes: c.routes},
					Hooks: Hooks{
						Explained: func(_ context.Context, e *Explanation) { told = append(told, e) },
						CallDone:  func(_ context.Context, _ CallInfo, r CallResult) { flags = append(flags, r.Flag()) },
					},
				})
				service := pick(c.service, "orders")
				for range c.calls {
					_, _ = Do(t.Context(), m, service, doing(c.errs...))
				}
				told, flags = nil, nil
				_, err := Do(WithCall(t.Context(), c.options), m, service, doing(c.errs...))
				e := Explain(fmt.Errorf("in other words: %w", err))
				if e == nil {
					t.Fatalf("%v is not explained", err)
				}
				if e.Reason != c.reason || e.Flag != c.flag || int(e.N) != c.tries || e.Service != service || e.Err != nil || e.Sampled {
					t.Errorf("reason %q, flag %q, %d tries of %q, want %q, %q, %d\n%v", e.Reason, e.Flag, e.N, e.Service, c.reason, c.flag, c.tries, e)
				}
				if len(told) != 1 || told[0] != e {
					t.Errorf("Hooks.Explained was told of %d", len(told))
				}
				if len(flags) > 0 && flags[0] != c.flag && c.reason != Fixed {
					t.Errorf("CallDone has the flag %q, want %q", flags[0], c.flag)
				}
				if (e.NR > 0) != (c.stage != "") || e.NR > 0 && e.Refusals[0].Stage != c.stage {
					t.Errorf("refusals %+v, want of %q", e.Refusals[:e.NR], c.stage)
				}
				for i, try := range e.Tries[:e.N] {
					if c.stage == "" && (try.Choice.Nodes != 3 || try.Late != (i == 0)) {
						t.Errorf("try %d was chosen from %d, late %v", i, try.Choice.Nodes, try.Late)
					}
				}
				if text := e.String(); strings.Count(text, "\n") < 3 || !strings.Contains(text, string(c.flag)) {
					t.Errorf("String() = %s", text)
				}
			})
		})
	}
}

func TestExplainPolicyDecides(t *testing.T) {
	for _, c := range []struct {
		policy ExplainPolicy
		call   Switch
		failed bool
		want   bool
	}{
		{ExplainPolicy{}, Inherit, true, true},
		{ExplainPolicy{}, Inherit, false, false},
		{ExplainPolicy{}, On, false, true},
		{ExplainPolicy{}, Off, true, false},
		{ExplainPolicy{Mode: Off}, Inherit, true, false},
		{ExplainPolicy{Mode: Off, Sample: 1}, Inherit, false, false},
		{ExplainPolicy{Mode: Off}, On, false, true},
		{ExplainPolicy{Sample: 1}, Inherit, false, true},
		{ExplainPolicy{Sample: 1}, Off, false, false},
		{ExplainPolicy{Sample: -1}, Inherit, false, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := open(t, Config{Resolver: orders(3), Spec: Spec{Defaults: Policy{Explain: c.policy}}})
			ctx, report := WithReport(WithCall(t.Context(), CallOptions{Explain: c.call}))
			var err error
			if c.failed {
				err = errDown
			}
			_, err = Do(ctx, m, "orders", doing(err))
			e := Explain(report)
			if (e != nil) != c.want || c.failed && Explain(err) != e {
				t.Errorf("%+v: explained %v", c, e != nil)
			}
			if e == nil {
				return
			}
			if try := &e.Tries[0]; e.N != 1 || try.Choice.Nodes != 3 || try.Late == e.Sampled || e.Sampled == c.failed || try.Budget < 0.9 {
				t.Errorf("%+v: %+v", c, e)
			}
		})
	}
}

// Others' seeds must not shift because calls are explained.
func TestExplanationsDrawNoRandomWords(t *testing.T) {
	words := func(p ExplainPolicy, o CallOptions) (n int) {
		synctest.Test(t, func(t *testing.T) {
			m := open(t, Config{Resolver: orders(3), Rand: func() uint64 { n++; return 7 }, Spec: Spec{Defaults: Policy{Explain: p, Idempotent: On}}})
			_, _ = Do(WithCall(t.Context(), o), m, "orders", doing(errDown, nil))
		})
		return n
	}
	off := words(ExplainPolicy{Mode: Off}, CallOptions{})
	if on, asked, sampled := words(ExplainPolicy{}, CallOptions{}), words(ExplainPolicy{}, CallOptions{Explain: On}), words(ExplainPolicy{Sample: 0.5}, CallOptions{}); on != off || asked != off || sampled != off+1 {
		t.Errorf("%d random words without explanations, %d with, %d if asked for, %d if sampled", off, on, asked, sampled)
	}
}

func TestSampleIsTheShare(t *testing.T) {
	m := open(t, Config{Resolver: orders(3), Rand: rand.New(rand.NewPCG(1, 2)).Uint64, Spec: Spec{Defaults: Policy{Explain: ExplainPolicy{Sample: 0.1}, Balance: "random"}}})
	tgt, _ := m.find("orders")
	n := 0
	for range 10000 {
		if tgt.direct.explains(&CallOptions{}) == explainAll {
			n++
		}
	}
	if n < 900 || n > 1100 {
		t.Errorf("%d of 10000 calls, want about 1000", n)
	}
}

// Whatever others write into it, an Explanation is valid UTF-8 in JSON, and its text shows no control characters.
func TestExplanationsAreFitToBeShown(t *testing.T) {
	evil := "a\x00b\xff\u202e<script>\n" + strings.Repeat("\xff\xfeé", 300)
	e := &Explanation{N: 1, NR: 1, Match: -1, CallInfo: CallInfo{Service: evil, Host: evil, Method: evil, Lane: evil, Route: evil, Rule: 3}}
	e.fail(&Error{Reason: Failed, Err: errors.New(evil)})
	try := &e.Tries[0]
	try.Addr, try.Zone, try.Error, try.Flag = evil, evil, errorText(errors.New(evil), maxTryText), FlagReset
	try.Choice = loadbalance.Choice{Nodes: 2, N: 1, How: loadbalance.HowCompared, Random: 1 << 63}
	try.Choice.Compared[0] = loadbalance.Candidate{Addr: evil, Picked: true}
	if len(e.Error) > maxErrorText || len(try.Error) > maxTryText || !utf8.ValidString(e.Error) || !utf8.ValidString(try.Error) {
		t.Errorf("texts of %d and %d bytes", len(e.Error), len(try.Error))
	}
	text := e.String()
	if !utf8.ValidString(text) || strings.ContainsAny(text, "\x00\u202e\r") || strings.Contains(text, "<script>\n") {
		t.Errorf("String() = %q", text)
	}
	data, err := json.Marshal(e)
	if err != nil || !utf8.Valid(data) {
		t.Fatalf("json.Marshal: %v", err)
	}
	var back struct {
		Rule  int
		Tries []struct {
			Choice struct{ Random string }
		}
	}
	if err := json.Unmarshal(data, &back); err != nil || back.Rule != 3 || back.Tries[0].Choice.Random != "8000000000000000" {
		t.Errorf("JSON = %s, %v", data, err)
	}
	if data, err := json.Marshal((*Explanation)(nil)); string(data) != "null" || err != nil {
		t.Errorf("JSON of nil = %s, %v", data, err)
	}
}

func TestExplainFindsNothing(t *testing.T) {
	var e *Explanation
	for _, v := range []any{nil, 3, errDown, &Error{}, (*Report)(nil), (*CallRecord)(nil), CallRecord{}, &struct{ Body any }{}, (*Error)(nil), context.Background()} {
		if got := Explain(v); got != nil {
			t.Errorf("Explain(%T) = %v", v, got)
		}
	}
	if e.String() == "" {
		t.Error("the text of none is empty")
	}
}

// An answer is explained as long as it lives, and no longer.
func TestAttachedExplanationsGoWithTheirAnswers(t *testing.T) {
	type answer struct{ data [64]byte }
	e := &Explanation{}
	func() {
		a := &answer{}
		Attach(a, e)
		if Explain(a) != e || Explain(&answer{}) != nil {
			t.Error("the answer is not explained, or another one is")
		}
	}()
	for range 100 {
		runtime.GC()
		n := 0
		attached.Range(func(_, x any) bool {
			if x.(*attachment).explanation == e {
				n++
			}
			return true
		})
		if n == 0 {
			return
		}
		runtime.Gosched()
	}
	t.Error("an answer that is gone is still there")
}

func TestFlags(t *testing.T) {
	for _, c := range []struct {
		result AttemptResult
		want   Flag
	}{
		{AttemptResult{Status: 200}, ""},
		{AttemptResult{Status: 503, Outcome: resilience.Failure}, FlagStatus},
		{AttemptResult{Status: 429, Outcome: resilience.Overload}, FlagShed},
		{AttemptResult{Status: -1, Outcome: resilience.Failure, Err: timeoutError(time.Second)}, FlagTimeout},
		{AttemptResult{Status: -1, Outcome: resilience.Failure, Err: context.DeadlineExceeded}, FlagDeadline},
		{AttemptResult{Status: -1, Outcome: resilience.Failure, Err: limitError(time.Second)}, FlagTimeout},
		{AttemptResult{Status: -1, Outcome: resilience.Neutral, Err: context.Canceled}, FlagCallerGone},
		{AttemptResult{Status: -1, Outcome: resilience.Failure, Err: errors.New(`malformed HTTP response "x"`)}, FlagProtocol},
		{AttemptResult{Status: -1, Outcome: resilience.Failure, Err: errors.New("read: connection reset by peer")}, FlagReset},
		{AttemptResult{Status: -1, Outcome: resilience.Failure, Err: errors.New("tls: handshake failure")}, FlagConnect},
		{AttemptResult{Status: -1, Outcome: resilience.Failure, Err: errDown}, FlagStatus},
	} {
		if got := c.result.Flag(); got != c.want {
			t.Errorf("flag of %v = %q, want %q", c.result, got, c.want)
		}
	}
	r := CallResult{Delayed: time.Second}
	if r.Flag() != FlagDelayInjected {
		t.Errorf("flag of a call that was held up = %q", r.Flag())
	}
	told := CallResult{Status: -1, Outcome: resilience.Failure, Err: &Error{Reason: Failed, Err: errDown}, flag: FlagConnect}
	if n := testing.AllocsPerRun(100, func() { _ = told.Flag() }); n != 0 || told.Flag() != FlagConnect {
		t.Errorf("a flag costs %v allocations", n)
	}
}

func BenchmarkExplain(b *testing.B) {
	for _, c := range []struct {
		name string
		o    CallOptions
		err  error
	}{
		{"off", CallOptions{Explain: Off}, nil}, {"unsampled", CallOptions{}, nil}, {"sampled", CallOptions{Explain: On}, nil},
		{"failing/off", CallOptions{Explain: Off}, errDown}, {"failing", CallOptions{}, errDown},
	} {
		b.Run(c.name, func(b *testing.B) {
			m := benchMesh(b)
			ctx := WithCall(b.Context(), c.o)
			f := func(context.Context, *loadbalance.Node) (int, error) { return 0, c.err }
			b.ReportAllocs()
			for b.Loop() {
				_, _ = Do(ctx, m, "orders", f)
			}
		})
	}
}

func benchMesh(b *testing.B) *Mesh {
	m, err := New(Config{Resolver: orders(3), Spec: Spec{Defaults: Policy{Outlier: Outlier{Mode: Off}}}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { m.Close() })
	return m
}

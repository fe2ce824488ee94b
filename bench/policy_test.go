package bench

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	panel "github.com/bytedance/gopkg/cloud/circuitbreaker"
	eapache "github.com/eapache/go-resiliency/breaker"
	"github.com/eapache/go-resiliency/retrier"
	"github.com/eapache/go-resiliency/semaphore"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafehttp"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/go-kratos/aegis/circuitbreaker/sre"
	"github.com/hashicorp/go-retryablehttp"
	"github.com/sony/gobreaker/v2"
	gozero "github.com/zeromicro/go-zero/core/breaker"
	"golang.org/x/time/rate"

	mesh "github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/resilience"
)

// A guarded is a policy around a function that succeeds, or fails if the name says so.
type guarded struct {
	row, name string
	// make returns a function that makes a call, and whether that reached what the policy is around.
	make func(tb testing.TB) func() bool
}

var errBroken = errors.New("broken")

func succeed(context.Context) (int, error) { return 1, nil }

// stacked makes calls through a stack.
func stacked(s resilience.Stack) func(testing.TB) func() bool {
	return func(testing.TB) func() bool {
		ctx := context.Background()
		return func() bool {
			_, err := resilience.Do(ctx, &s, succeed)
			return err == nil
		}
	}
}

// failsafed makes calls through policies of failsafe-go.
func failsafed(policies ...failsafe.Policy[int]) func(testing.TB) func() bool {
	return func(testing.TB) func() bool {
		executor := failsafe.With(policies...)
		return func() bool {
			_, err := executor.Get(func() (int, error) { return 1, nil })
			return err == nil
		}
	}
}

func ours() *resilience.Breaker { return resilience.NewBreaker(resilience.BreakerConfig{}) }

func retries() failsafe.Policy[int] { return retrypolicy.NewBuilder[int]().WithMaxRetries(2).Build() }

func breaks() failsafe.Policy[int] { return circuitbreaker.NewWithDefaults[int]() }

var started = time.Now()

var policies = []guarded{
	{"breaker", "zerohop", func(testing.TB) func() bool {
		b := ours()
		return func() bool {
			now := time.Since(started)
			p, ok := b.Allow(now)
			p.Done(now, resilience.Success, 0)
			return ok
		}
	}},
	{"breaker", "zerohop/Do", stacked(resilience.Stack{Breaker: ours()})},
	{"breaker", "gobreaker", func(testing.TB) func() bool {
		b := gobreaker.NewCircuitBreaker[int](gobreaker.Settings{})
		return func() bool {
			_, err := b.Execute(func() (int, error) { return 1, nil })
			return err == nil
		}
	}},
	{"breaker", "gobreaker/window", func(testing.TB) func() bool {
		b := gobreaker.NewCircuitBreaker[int](gobreaker.Settings{Interval: 10 * time.Second, BucketPeriod: time.Second})
		return func() bool {
			_, err := b.Execute(func() (int, error) { return 1, nil })
			return err == nil
		}
	}},
	{"breaker", "failsafe-go", failsafed(breaks())},
	{"breaker", "eapache", func(testing.TB) func() bool {
		b := eapache.New(5, 1, time.Second)
		return func() bool { return b.Run(func() error { return nil }) == nil }
	}},
	{"breaker", "go-zero", func(testing.TB) func() bool {
		b := gozero.NewBreaker()
		return func() bool { return b.Do(func() error { return nil }) == nil }
	}},
	{"breaker", "aegis", func(testing.TB) func() bool {
		b := sre.NewBreaker()
		return func() bool {
			if b.Allow() != nil {
				return false
			}
			b.MarkSuccess()
			return true
		}
	}},
	{"breaker", "kitex panel", func(tb testing.TB) func() bool {
		p, err := panel.NewPanel(nil, panel.Options{})
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(p.Close)
		return func() bool {
			ok := p.IsAllowed("orders")
			p.Succeed("orders")
			return ok
		}
	}},
	{"breaker open", "zerohop/Do", func(tb testing.TB) func() bool {
		s := &resilience.Stack{Breaker: resilience.NewBreaker(resilience.BreakerConfig{Consecutive: 1, OpenFor: time.Hour})}
		_ = s.Run(context.Background(), func(context.Context) error { return errBroken })
		return func() bool {
			_, err := resilience.Do(context.Background(), s, succeed)
			return errors.Is(err, resilience.ErrBreakerOpen)
		}
	}},
	{"breaker open", "gobreaker", func(testing.TB) func() bool {
		b := gobreaker.NewCircuitBreaker[int](gobreaker.Settings{ReadyToTrip: func(gobreaker.Counts) bool { return true }, Timeout: time.Hour})
		_, _ = b.Execute(func() (int, error) { return 0, errBroken })
		return func() bool {
			_, err := b.Execute(func() (int, error) { return 1, nil })
			return errors.Is(err, gobreaker.ErrOpenState)
		}
	}},
	{"breaker open", "failsafe-go", func(tb testing.TB) func() bool {
		b := circuitbreaker.NewWithDefaults[int]()
		b.Open()
		executor := failsafe.With[int](b)
		return func() bool {
			_, err := executor.Get(func() (int, error) { return 1, nil })
			return errors.Is(err, circuitbreaker.ErrOpen)
		}
	}},
	{"rate limit", "zerohop", func(testing.TB) func() bool {
		l := resilience.NewRateLimit(resilience.RateLimitConfig{Rate: 1e6, Burst: 1e6})
		return func() bool { _ = l.Allow(time.Since(started)); return true }
	}},
	{"rate limit", "x/time/rate", func(testing.TB) func() bool {
		l := rate.NewLimiter(1e6, 1e6)
		return func() bool { _ = l.Allow(); return true }
	}},
	{"rate limit", "failsafe-go", func(testing.TB) func() bool {
		l := ratelimiter.NewBursty[int](1e6, time.Second)
		return func() bool { _ = l.TryAcquirePermit(); return true }
	}},
	{"limit in flight", "zerohop", func(testing.TB) func() bool {
		l := resilience.NewLimit(resilience.LimitConfig{Max: 100}, nil)
		return func() bool {
			var t resilience.Ticket
			now := time.Since(started)
			a := l.Enter(now, &t)
			l.Leave(now, &t, resilience.Success, time.Millisecond)
			return a == resilience.Admitted
		}
	}},
	{"limit in flight", "zerohop/gradient", func(testing.TB) func() bool {
		l := resilience.NewLimit(resilience.LimitConfig{Algorithm: "gradient"}, nil)
		return func() bool {
			var t resilience.Ticket
			now := time.Since(started)
			a := l.Enter(now, &t)
			l.Leave(now, &t, resilience.Success, time.Millisecond)
			return a == resilience.Admitted
		}
	}},
	{"limit in flight", "failsafe-go", func(testing.TB) func() bool {
		l := bulkhead.New[int](100)
		return func() bool {
			ok := l.TryAcquirePermit()
			l.ReleasePermit()
			return ok
		}
	}},
	{"limit in flight", "eapache", func(testing.TB) func() bool {
		l := semaphore.New(100, time.Second)
		return func() bool {
			err := l.Acquire()
			l.Release()
			return err == nil
		}
	}},
	{"budget", "zerohop", func(testing.TB) func() bool {
		b := resilience.NewBudget(resilience.BudgetConfig{})
		return stacked(resilience.Stack{Idempotent: true, Budget: b})(nil)
	}},
	{"retry", "zerohop/Do", stacked(resilience.Stack{Idempotent: true, Retry: &resilience.Retry{}})},
	{"retry", "failsafe-go", failsafed(retries())},
	{"retry", "eapache", func(testing.TB) func() bool {
		r := retrier.New(retrier.ExponentialBackoff(2, 25*time.Millisecond), nil)
		return func() bool { return r.Run(func() error { return nil }) == nil }
	}},
	{"retry, budget, breaker", "zerohop/Do", stacked(resilience.Stack{
		Idempotent: true, Retry: &resilience.Retry{}, Breaker: ours(), Budget: resilience.NewBudget(resilience.BudgetConfig{}),
	})},
	{"retry, budget, breaker", "failsafe-go without budget", failsafed(retries(), breaks())},
	{"retry, breaker, timeout", "zerohop/Do", stacked(resilience.Stack{
		Idempotent: true, Retry: &resilience.Retry{}, Breaker: ours(), AttemptTimeout: time.Second,
	})},
	{"retry, breaker, timeout", "failsafe-go", failsafed(retries(), breaks(), timeout.New[int](time.Second))},
	{"hedge", "zerohop/Do", stacked(resilience.Stack{Idempotent: true, Hedge: &resilience.Hedge{After: time.Second}})},
	{"hedge", "failsafe-go", failsafed(hedgepolicy.NewWithDelay[int](time.Second))},
	{"RoundTripper", "none", func(tb testing.TB) func() bool { return trips(tb, nothing{}, "http://10.0.0.1/") }},
	{"RoundTripper", "zerohop", func(tb testing.TB) func() bool {
		m, err := mesh.New(mesh.Config{
			Resolver: discovery.Static{"orders": {{Addr: "10.0.0.1:80"}, {Addr: "10.0.0.2:80"}, {Addr: "10.0.0.3:80"}}},
			Spec:     mesh.Spec{Services: map[string]mesh.Policy{"orders": {Breaker: mesh.Breaker{Mode: mesh.On}}}},
		})
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { m.Close() })
		return trips(tb, httpmesh.NewTransport(m, nothing{}), "http://orders/")
	}},
	{"RoundTripper", "failsafe-go", func(tb testing.TB) func() bool {
		return trips(tb, failsafehttp.NewRoundTripper(nothing{}, failsafehttp.NewRetryPolicyBuilder().Build(), circuitbreaker.NewWithDefaults[*http.Response]()), "http://10.0.0.1/")
	}},
	{"RoundTripper", "go-retryablehttp", func(tb testing.TB) func() bool {
		c := retryablehttp.NewClient()
		c.HTTPClient = &http.Client{Transport: nothing{}}
		c.Logger = nil
		return trips(tb, &retryablehttp.RoundTripper{Client: c}, "http://10.0.0.1/")
	}},
}

// nothing answers without a network.
type nothing struct{}

func (nothing) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
}

// trips makes requests through a RoundTripper, and reads their answers.
func trips(tb testing.TB, rt http.RoundTripper, url string) func() bool {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return func() bool {
		resp, err := rt.RoundTrip(req)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}
}

func (g *guarded) String() string { return strings.ReplaceAll(g.row+"/"+g.name, " ", "_") }

// BenchmarkPolicy measures what a policy costs a call that it lets pass, or refuses if the row says so.
func BenchmarkPolicy(b *testing.B) {
	for i := range policies {
		p := &policies[i]
		b.Run(p.String(), func(b *testing.B) {
			call := p.make(b)
			b.ReportAllocs()
			for b.Loop() {
				call()
			}
		})
	}
}

// BenchmarkPolicyParallel is BenchmarkPolicy from as many goroutines as there are processors, which share the policy.
func BenchmarkPolicyParallel(b *testing.B) {
	for i := range policies {
		p := &policies[i]
		b.Run(p.String(), func(b *testing.B) {
			call := p.make(b)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					call()
				}
			})
		})
	}
}

// TestPoliciesDoWhatIsMeasured checks that calls get through, or are refused where the row says so.
func TestPoliciesDoWhatIsMeasured(t *testing.T) {
	for i := range policies {
		p := &policies[i]
		call := p.make(t)
		for range 100 {
			if !call() {
				t.Errorf("%v: a call did not end as it is to be measured", p)
				break
			}
		}
	}
}

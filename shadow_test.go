package zerohop

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/routing"
)

// judge makes calls to orders under one policy, which the attempts of turn out as try says, and returns what a Shadow makes of
// another policy, and how many calls failed.
func judge(t *testing.T, live, other Policy, calls int, try func(call, attempt int, n *loadbalance.Node) (time.Duration, error)) (found ShadowService, failed uint64) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	m := open(t, Config{Resolver: orders(3), Rand: random.Uint64, Spec: Spec{Defaults: live}})
	s, err := m.Shadow(Spec{Defaults: other})
	if err != nil {
		t.Fatal(err)
	}
	for i := range calls {
		attempt := -1
		_, err := Do(t.Context(), m, "orders", func(ctx context.Context, n *loadbalance.Node) (int, error) {
			attempt++
			took, err := try(i, attempt, n)
			select {
			case <-time.After(took):
				return 0, err
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		})
		if err != nil {
			failed++
		}
		time.Sleep(10 * time.Millisecond)
	}
	r := s.Report()
	if len(r.Services) != 1 || r.Calls != uint64(calls) || r.Services[0].Calls != uint64(calls) {
		t.Fatalf("Report() = %v, want %d calls to one service", r, calls)
	}
	if len(r.Moves) > 0 {
		t.Errorf("Moves = %v, want none", r.Moves)
	}
	return r.Services[0], failed
}

// steady is a policy without what looks at more than one call.
var steady = Policy{
	Balance: "random", Idempotent: On, Backup: Backup{Mode: Off}, Outlier: Outlier{Mode: Off}, Budget: Budget{Mode: Off},
	Retry: Retry{Base: time.Millisecond, Max: time.Millisecond},
}

func TestShadowTellsWhatTimeoutsWouldHaveCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := steady
		other.Timeout = 500 * time.Millisecond
		found, _ := judge(t, steady, other, 50, func(call, _ int, _ *loadbalance.Node) (time.Duration, error) {
			if call%5 == 0 {
				return time.Second, nil
			}
			return time.Millisecond, nil
		})
		if found.Lost != 10 || found.LostToTime != 10 {
			t.Errorf("%d calls lost, %d of them to time, want the 10 that took a second", found.Lost, found.LostToTime)
		}
	})
}

func TestShadowTellsWhatMoreTimeMightSave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, other := range []time.Duration{0, 50 * time.Millisecond, 100 * time.Millisecond, time.Second} {
			live, longer := steady, steady
			live.Timeout, longer.Timeout = 100*time.Millisecond, other
			found, failed := judge(t, live, longer, 50, func(call, _ int, _ *loadbalance.Node) (time.Duration, error) {
				if call%5 == 0 {
					return 500 * time.Millisecond, nil
				}
				return time.Millisecond, nil
			})
			want := failed
			if other > 0 && other <= live.Timeout {
				want = 0
			}
			if failed != 10 || found.Saved != want || found.Lost > 0 {
				t.Errorf("with %v instead of %v: %d calls failed, %d would have been saved, want %d: %v", other, live.Timeout, failed, found.Saved, want, found)
			}
		}
	})
}

func TestShadowLimitsNoFixedAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := Spec{Routes: []routing.Rule{{Name: "fixed", Match: routing.Match{Service: "orders"}, Response: &routing.Response{Status: 404}}}}
		m := open(t, Config{Resolver: orders(1), Spec: spec})
		spec.Defaults.RateLimit = RateLimit{Mode: On, Rate: 1}
		s, err := m.Shadow(spec)
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			_, _ = Do(t.Context(), m, "orders", func(context.Context, *loadbalance.Node) (int, error) { return 0, nil })
		}
		if r := s.Report(); r.Calls != 10 || len(r.Services) != 1 || len(r.Services[0].Refused) > 0 {
			t.Errorf("Report() = %v, want 10 calls that no limit refuses", r)
		}
	})
}

// Where the other policy makes no attempt that was not made, what it would have lost is what it does lose.
func TestShadowForeseesLosses(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			share := random.Float64() * 0.8
			try := func(call, attempt int, _ *loadbalance.Node) (time.Duration, error) {
				r := rand.New(rand.NewPCG(seed<<32|uint64(call), uint64(attempt)))
				if took := time.Duration(r.Int64N(int64(200*time.Millisecond)/2)) * 2; r.Float64() < share {
					return took, errDown
				} else {
					return took, nil
				}
			}
			live, other := steady, steady
			live.Retry.Attempts = 4
			other.Retry.Attempts = 1 + random.IntN(4)
			if random.IntN(2) == 0 {
				other.Timeout = time.Duration(random.Int64N(int64(400*time.Millisecond)/2))*2 + time.Millisecond/2
			}
			found, before := judge(t, live, other, 100, try)
			_, after := judge(t, other, other, 100, try)
			// Pauses before retries are random: near the timeout either may happen.
			if got, want := found.Lost, after-before; other.Timeout == 0 && got != want || max(got, want)-min(got, want) > 3 {
				t.Errorf("seed %d: %d calls would have been lost, %d more were: %v", seed, got, want, found)
			}
			if found.Saved > 0 && other.Retry.Attempts <= 4 && other.Timeout == 0 {
				t.Errorf("seed %d: %d calls would have been saved by fewer attempts", seed, found.Saved)
			}
		})
	}
}

func TestShadowTellsWhatRetriesMightSave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		live := steady
		live.Retry.Mode = Off
		found, failed := judge(t, live, steady, 60, func(_, _ int, n *loadbalance.Node) (time.Duration, error) {
			if n.Addr() == endpoints(3)[0].Addr {
				return time.Millisecond, errDown
			}
			return time.Millisecond, nil
		})
		if failed == 0 || found.Saved != failed || found.WouldAttempts != found.Attempts+failed || found.Lost > 0 {
			t.Errorf("%d calls failed: %v", failed, found)
		}
	})
}

func TestShadowEjectsOnPaper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := steady
		other.Outlier = Outlier{Mode: On, Consecutive: 3}
		bad := endpoints(3)[0].Addr
		found, _ := judge(t, steady, other, 60, func(_, _ int, n *loadbalance.Node) (time.Duration, error) {
			if n.Addr() == bad {
				return time.Millisecond, errDown
			}
			return time.Millisecond, nil
		})
		if want := []string{bad}; found.KeptAway == 0 || !reflect.DeepEqual(found.Ejected, want) {
			t.Errorf("%d attempts kept away, ejected %v, want %v", found.KeptAway, found.Ejected, want)
		}
	})
}

func TestShadowTellsWhatStagesWouldRefuse(t *testing.T) {
	fail := func(call, _ int, _ *loadbalance.Node) (time.Duration, error) {
		if call < 30 {
			return time.Millisecond, errDown
		}
		return time.Millisecond, nil
	}
	for stage, change := range map[Stage]func(*Policy){
		StageRateLimit: func(p *Policy) { p.RateLimit = RateLimit{Mode: On, Rate: 10} },
		StageThrottle:  func(p *Policy) { p.Throttle.Mode = On },
		StageBreaker:   func(p *Policy) { p.ServiceBreaker = Breaker{Mode: On, Consecutive: 5, OpenFor: time.Minute} },
	} {
		synctest.Test(t, func(t *testing.T) {
			other := steady
			change(&other)
			found, _ := judge(t, steady, other, 100, fail)
			if found.Refused[stage] == 0 || len(found.Refused) != 1 || found.Lost == 0 || found.LostToTime+found.LostToRetry > 0 {
				t.Errorf("%s: %v", stage, found)
			}
		})
	}
}

func TestShadowCountsCallsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(3)})
		s, err := m.Shadow(Spec{Defaults: Policy{Limit: Limit{Mode: On, Max: 2}}})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				_, _ = Do(t.Context(), m, "orders", func(context.Context, *loadbalance.Node) (int, error) {
					time.Sleep(time.Second)
					return 0, nil
				})
			})
		}
		wg.Wait()
		if got := s.Report().Services[0]; got.Refused[StageLimit] != 3 || got.Lost != 3 {
			t.Errorf("Report() = %v, want 3 calls refused and lost", got)
		}
	})
}

func TestShadowComparesRoutes(t *testing.T) {
	split := func(canary uint32) Spec {
		return Spec{Routes: []routing.Rule{{
			Name: "split", Match: routing.Match{Service: "orders"},
			Backends: []routing.Backend{
				{Service: "orders", Weight: 100 - canary, Select: map[string]string{"version": "1"}},
				{Service: "orders", Weight: canary, Select: map[string]string{"version": "2"}},
			},
		}}}
	}
	synctest.Test(t, func(t *testing.T) {
		set := endpoints(4)
		for i := range set {
			set[i].Meta = map[string]string{"version": fmt.Sprint(1 + i%2)}
		}
		m := open(t, Config{Resolver: discovery.Static{"orders": set}, Spec: split(10)})
		call := func() {
			for range 1000 {
				if _, err := Do(t.Context(), m, "ORDERS", func(context.Context, *loadbalance.Node) (int, error) { return 0, nil }); err != nil {
					t.Fatal(err)
				}
			}
		}
		s, err := m.Shadow(split(10))
		if err != nil {
			t.Fatal(err)
		}
		call()
		if r := s.Report(); r.Calls != 1000 || len(r.Moves) > 0 {
			t.Errorf("the same spec moves %v of %d calls, want none of 1000", r.Moves, r.Calls)
		}
		other, err := m.Shadow(split(30))
		if err != nil {
			t.Fatal(err)
		}
		call()
		r := other.Report()
		if len(r.Moves) != 1 || r.Moves[0].Calls < 150 || r.Moves[0].Calls > 250 || r.Moves[0].To.Select != `version="2"` {
			t.Errorf("20 percent more of a split move %v, want about 200 calls", r.Moves)
		}
		if got := s.Report().Calls; got != 1000 {
			t.Errorf("a Shadow went on to judge after another took its place: %d calls", got)
		}
		other.Stop()
		other.Stop()
		call()
		if got := other.Report(); got.Calls != 1000 || got.Elapsed != r.Elapsed || !strings.Contains(got.String(), `with version="2" by route "split"`) {
			t.Errorf("after Stop the report is %v", got)
		}
	})
}

func TestShadowChangesNothing(t *testing.T) {
	run := func(t *testing.T, shadowed bool) (log []string) {
		random := rand.New(rand.NewPCG(7, 7))
		m := open(t, Config{Resolver: orders(3), Rand: random.Uint64})
		if shadowed {
			if _, err := m.Shadow(Spec{Defaults: Policy{
				Retry: Retry{Mode: Off}, Timeout: time.Millisecond, RateLimit: RateLimit{Mode: On, Rate: 1},
				Outlier: Outlier{Consecutive: 1}, ServiceBreaker: Breaker{Mode: On, Consecutive: 1},
			}}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 200 {
			_, err := Do(t.Context(), m, "orders", func(_ context.Context, n *loadbalance.Node) (int, error) {
				time.Sleep(2 * time.Millisecond)
				if i%7 == 0 {
					return 0, errDown
				}
				return 0, nil
			})
			log = append(log, fmt.Sprint(err != nil))
		}
		return log
	}
	var logs [2][]string
	for i := range logs {
		synctest.Test(t, func(t *testing.T) { logs[i] = run(t, i == 1) })
	}
	if !reflect.DeepEqual(logs[0], logs[1]) {
		t.Error("calls came out otherwise with a Shadow")
	}
}

func TestShadowIsStoppedAmongCalls(t *testing.T) {
	m := open(t, Config{Resolver: orders(3)})
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for range 4 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				_, _ = Do(t.Context(), m, fmt.Sprint("service", i%3), func(context.Context, *loadbalance.Node) (int, error) { return 0, nil })
				_, _ = Do(t.Context(), m, "orders", func(context.Context, *loadbalance.Node) (int, error) { return 0, nil })
			}
		})
	}
	for i := range 50 {
		s, err := m.Shadow(Spec{Services: map[string]Policy{"orders": {Retry: Retry{Attempts: 1 + i%3}}}})
		if err != nil {
			t.Fatal(err)
		}
		for s.Report().Calls < 10 { // with what the others make
			if err := ping(t.Context(), m, "orders"); err != nil {
				t.Fatal(err)
			}
		}
		if i%2 == 0 {
			s.Stop()
		}
	}
	cancel()
	wg.Wait()
}

func TestShadowRefusesWhatUpdateWould(t *testing.T) {
	m := open(t, Config{Resolver: orders(1)})
	_, err := m.Shadow(Spec{Defaults: Policy{Retry: Retry{Attempts: 9}}})
	if err == nil || !strings.Contains(err.Error(), "defaults.retry.attempts") {
		t.Errorf("Shadow() = %v, want an error that names defaults.retry.attempts", err)
	}
	m.Close()
	if _, err := m.Shadow(Spec{}); !errors.Is(err, ErrClosed) {
		t.Errorf("Shadow() of a closed mesh = %v, want ErrClosed", err)
	}
}

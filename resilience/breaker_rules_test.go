package resilience

import (
	"math"
	"testing"
	"time"
)

func TestBreakerOpensForSlowAnswers(t *testing.T) {
	for _, tt := range []struct {
		name    string
		config  BreakerConfig
		latency []time.Duration // of successes in turn
		n       int
		want    BreakerState
	}{
		{"none is too slow", BreakerConfig{}, []time.Duration{time.Hour}, 100, BreakerClosed},
		{"as slow as may be", BreakerConfig{SlowAfter: time.Second}, []time.Duration{time.Second}, 100, BreakerClosed},
		{"slower", BreakerConfig{SlowAfter: time.Second}, []time.Duration{time.Second + 1}, 20, BreakerOpen},
		{"slower, but few", BreakerConfig{SlowAfter: time.Second}, []time.Duration{time.Second + 1}, 19, BreakerClosed},
		{"half of them", BreakerConfig{SlowAfter: time.Second}, []time.Duration{2, 2 * time.Second}, 20, BreakerOpen},
		{"half of them may be", BreakerConfig{SlowAfter: time.Second, SlowRatio: 0.6}, []time.Duration{2, 2 * time.Second}, 100, BreakerClosed},
		{"of calls", BreakerConfig{SlowAfter: time.Second, Calls: 30}, []time.Duration{2, 2 * time.Second}, 20, BreakerOpen},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, tt.config, func(t *testing.T, b tested) {
				for i := range tt.n {
					p, _ := b.allow()
					p.Done(b.now(), Success, tt.latency[i%len(tt.latency)])
				}
				b.check(t, tt.want)
			})
		})
	}
}

// A service that becomes five times as slow opens the breaker within its window. If it stays so that is usual after a while.
func TestBreakerLearnsWhatIsSlow(t *testing.T) {
	bubble(t, BreakerConfig{SlowFactor: 3}, func(t *testing.T, b tested) {
		open := 0
		serve := func(latency, d time.Duration) {
			open = 0
			for end := b.now() + d; b.now() < end; time.Sleep(50 * ms) {
				if p, ok := b.allow(); ok {
					p.Done(b.now(), Success, latency)
				} else {
					open++
				}
			}
		}
		for range 3 {
			if serve(10*ms, 37*time.Second); open > 0 {
				t.Fatalf("%d calls refused before it is slow", open)
			}
			if serve(50*ms, 10*time.Second); open == 0 {
				t.Error("the breaker did not open when calls became slow")
			}
			serve(50*ms, 50*time.Second)
			if serve(50*ms, time.Minute); open > 0 {
				t.Errorf("%d calls refused a minute after it became slow for good", open)
			}
			serve(10*ms, time.Minute)
		}
	})
}

// The rules are those of Resilience4j: its documentation, and what its source does where that says nothing.
func TestBreakerCountsCallsAsResilience4jDoes(t *testing.T) {
	run := func(c BreakerConfig) BreakerConfig {
		c.Consecutive = math.MaxUint32
		return c
	}
	for _, tt := range []struct {
		name     string
		config   BreakerConfig
		outcomes []Outcome
		want     BreakerState
	}{
		{"99 failures of 100 calls", run(BreakerConfig{Calls: 100, MinRequests: 100}), repeat(99, Failure), BreakerClosed},
		{"50 of 100", run(BreakerConfig{Calls: 100, MinRequests: 100}), append(repeat(50, Failure), repeat(50, Success)...), BreakerOpen},
		{"49 of 100", run(BreakerConfig{Calls: 100, MinRequests: 100}), append(repeat(49, Failure), repeat(51, Success)...), BreakerClosed},
		{"minimum above the window", run(BreakerConfig{Calls: 10, MinRequests: 100}), repeat(10, Failure), BreakerOpen},
		{"window slides", run(BreakerConfig{Calls: 10, MinRequests: 10}), append(repeat(4, Failure), append(repeat(6, Success), repeat(4, Failure)...)...), BreakerClosed},
		{"window slides over successes", run(BreakerConfig{Calls: 10, MinRequests: 10}), append(repeat(100, Success), repeat(5, Failure)...), BreakerOpen},
		{"7 % of 100", run(BreakerConfig{Calls: 100, MinRequests: 100, Ratio: 0.07}), append(repeat(7, Failure), repeat(93, Success)...), BreakerOpen},
		{"ignored", run(BreakerConfig{Calls: 10, MinRequests: 2}), append(repeat(50, Neutral, Overload), Failure, Success), BreakerOpen},
		{"a row", BreakerConfig{Calls: 100}, repeat(5, Failure), BreakerOpen},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, tt.config, func(t *testing.T, b tested) {
				b.report(t, tt.outcomes...)
				b.check(t, tt.want)
			})
		})
	}
	for _, tt := range []struct {
		name     string
		min      uint32
		outcomes []Outcome // of four probes
		want     BreakerState
	}{
		{"not all are in", 100, repeat(3, Failure), BreakerHalfOpen},
		{"half of them", 100, repeat(2, Failure, Success), BreakerOpen},
		{"a quarter", 100, append(repeat(3, Success), Failure), BreakerClosed},
		{"as many as matter", 2, repeat(2, Success), BreakerClosed},
		{"ignored ones give their permit back", 100, append(repeat(9, Neutral), repeat(4, Success)...), BreakerClosed},
	} {
		t.Run("probes: "+tt.name, func(t *testing.T) {
			bubble(t, BreakerConfig{Calls: 100, MinRequests: tt.min, Probes: 4, Jitter: -1, OpenFor: time.Minute}, func(t *testing.T, b tested) {
				if err := b.Force(b.now(), BreakerOpen); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				b.report(t, tt.outcomes...)
				b.check(t, tt.want)
			})
		})
	}
}

func TestBreakerStatesAreForced(t *testing.T) {
	bubble(t, BreakerConfig{Jitter: -1}, func(t *testing.T, b tested) {
		force := func(s BreakerState) {
			t.Helper()
			if err := b.Force(b.now(), s); err != nil {
				t.Fatal(err)
			}
			if got := b.State(b.now()); got != s {
				t.Fatalf("State() = %q, want %q", got, s)
			}
		}
		force(BreakerForcedOpen)
		time.Sleep(time.Hour)
		if _, ok := b.allow(); ok || !b.Open(b.now()) || b.OpenUntil() != 0 {
			t.Error("a breaker that is forced open admits an attempt, or says until when")
		}
		force(BreakerDisabled)
		b.report(t, repeat(1000, Failure)...)
		force(BreakerClosed)
		b.report(t, repeat(4, Failure)...)
		old, _ := b.allow()
		force(BreakerClosed)
		b.done(old, Failure)
		b.check(t, BreakerClosed)
		force(BreakerOpen)
		b.check(t, BreakerOpen)
		time.Sleep(time.Second)
		b.check(t, BreakerHalfOpen)
		force(BreakerHalfOpen)
		b.report(t, Success)
		b.check(t, BreakerClosed)
		if err := b.Force(0, "ajar"); err == nil {
			t.Error("Force() to a state that there is not: no error")
		}
	})
}

func TestBreakerThatOnlyMeasuresEnforcesNothing(t *testing.T) {
	bubble(t, BreakerConfig{Jitter: -1}, func(t *testing.T, b tested) {
		if err := b.Force(0, BreakerMetricsOnly); err != nil {
			t.Fatal(err)
		}
		var refused []bool
		call := func(o Outcome) {
			p, ok, enforced := b.Ask(b.now())
			if refused = append(refused, !ok); !ok && enforced {
				t.Error("a refusal is enforced")
			}
			b.done(p, o)
			if _, ok := b.allow(); !ok {
				t.Error("Allow() = false")
			}
			if b.Open(b.now()) || b.State(b.now()) != BreakerMetricsOnly {
				t.Errorf("Open() = %v, State() = %q", b.Open(b.now()), b.State(b.now()))
			}
		}
		for range 6 {
			call(Failure)
		}
		if refused[4] || !refused[5] {
			t.Errorf("refused: %v, want what comes after the fifth failure", refused)
		}
		time.Sleep(time.Second)
		call(Success)
		call(Success)
		if refused[6] || refused[7] {
			t.Errorf("refused: %v, want none after a second", refused)
		}
	})
}

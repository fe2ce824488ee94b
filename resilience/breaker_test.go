package resilience

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// bubble runs f on synctest's clock with a breaker.
func bubble(t *testing.T, c BreakerConfig, f func(t *testing.T, b *Breaker)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, NewBreaker(c)) })
}

// report makes attempts with the given outcomes, and fails the test if one is not admitted.
func report(t *testing.T, b *Breaker, outcomes ...Outcome) {
	t.Helper()
	for _, o := range outcomes {
		p, ok := b.Allow()
		if !ok {
			t.Fatalf("attempt not admitted (%s)", b.State())
		}
		p.Done(o)
	}
}

// checkBreaker checks the state, and that all its mirrors agree on it.
func checkBreaker(t *testing.T, b *Breaker, want string) {
	t.Helper()
	if got := b.State(); got != want {
		t.Fatalf("State() = %q, want %q", got, want)
	}
	now := time.Now()
	if got := b.Open(now); got != (want == "open") {
		t.Fatalf("Open() = %v although %s", got, want)
	}
	if until := b.OpenUntil(); until.IsZero() != (want != "open") || want == "open" && until.Before(now) {
		t.Fatalf("OpenUntil() = %v at %v although %s", until, now, want)
	}
}

func repeat(n int, o ...Outcome) (list []Outcome) {
	for range n {
		list = append(list, o...)
	}
	return list
}

func TestBreakerOpens(t *testing.T) {
	for _, tt := range []struct {
		name     string
		config   BreakerConfig
		outcomes []Outcome
		want     string
	}{
		{"one of one", BreakerConfig{}, repeat(1, Failure), "closed"},
		{"four in a row", BreakerConfig{}, repeat(4, Failure), "closed"},
		{"five in a row", BreakerConfig{}, repeat(5, Failure), "open"},
		{"neutral outcomes do not end a row", BreakerConfig{}, repeat(5, Neutral, Failure), "open"},
		{"a success ends a row", BreakerConfig{MinRequests: 1000}, repeat(100, Failure, Failure, Failure, Failure, Success), "closed"},
		{"half of 18", BreakerConfig{}, repeat(9, Success, Failure), "closed"},
		{"half of 20", BreakerConfig{}, repeat(10, Success, Failure), "open"},
		{"a third", BreakerConfig{}, repeat(100, Success, Success, Failure), "closed"},
		{"a third is too much", BreakerConfig{Ratio: 0.3}, repeat(7, Success, Success, Failure), "open"},
		{"overload and neutral", BreakerConfig{}, repeat(100, Overload, Neutral), "closed"},
		{"overload and neutral are no volume", BreakerConfig{}, append(repeat(100, Overload, Neutral), repeat(9, Success, Failure)...), "closed"},
		{"nonsense counts as unset", BreakerConfig{Ratio: -1, Window: -1, OpenFor: -1}, append(repeat(20, Success, Success, Failure), repeat(4, Failure)...), "open"},
		{"more than all", BreakerConfig{Ratio: 2}, repeat(10, Success, Failure), "open"},
		{"no number", BreakerConfig{Ratio: math.NaN()}, repeat(10, Success, Failure), "open"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, tt.config, func(t *testing.T, b *Breaker) {
				report(t, b, tt.outcomes...)
				checkBreaker(t, b, tt.want)
			})
		})
	}
}

func TestBreakerOpensHalfwayAndCloses(t *testing.T) {
	bubble(t, BreakerConfig{Probes: 2}, func(t *testing.T, b *Breaker) {
		report(t, b, repeat(5, Failure)...)
		if got, want := b.OpenUntil(), time.Now().Add(time.Second); !got.Equal(want) {
			t.Errorf("OpenUntil() = %v, want %v", got, want)
		}
		if _, ok := b.Allow(); ok {
			t.Error("an open breaker admits an attempt")
		}
		time.Sleep(time.Second)
		checkBreaker(t, b, "open")
		time.Sleep(time.Nanosecond)
		if b.Open(time.Now()) {
			t.Error("Open() = true after the time to wait")
		}
		report(t, b, Success)
		checkBreaker(t, b, "half-open")
		report(t, b, Failure)
		checkBreaker(t, b, "open")
		time.Sleep(time.Second + 1)
		report(t, b, Neutral, Overload, Neutral, Success, Success)
		checkBreaker(t, b, "closed")
		report(t, b, repeat(4, Failure)...)
		checkBreaker(t, b, "closed")
	})
}

// A bucket is a tenth of the window, rounded down: what is left of the window makes an eleventh. Half of the
// attempts fail; only the volume decides.
func TestBreakerWindowRolls(t *testing.T) {
	for _, window := range []time.Duration{10 * ms, 10*ms + 3, 95 * ms, time.Second / 3, 10 * time.Second, time.Hour + 7} {
		for _, tt := range []struct {
			volume time.Duration // attempts in a window
			want   string
		}{{17, "closed"}, {24, "open"}} {
			bubble(t, BreakerConfig{Window: window, OpenFor: 24 * time.Hour}, func(t *testing.T, b *Breaker) {
				for i := range 200 {
					p, _ := b.Allow()
					p.Done(Outcome(i % 2)) // on the zero Permit, which an open breaker returns, nothing
					time.Sleep(window / tt.volume)
				}
				if got := b.State(); got != tt.want {
					t.Errorf("window %v, %d attempts in it: State() = %q, want %q", window, tt.volume, got, tt.want)
				}
			})
		}
	}
}

// A burst across the edge of two fixed windows would look like two small ones.
func TestBreakerSeesBurstsWhole(t *testing.T) {
	for _, window := range []time.Duration{-1 /* 10 s */, 10 * time.Second} {
		bubble(t, BreakerConfig{Window: window}, func(t *testing.T, b *Breaker) {
			time.Sleep(9500 * ms)
			report(t, b, repeat(9, Success, Failure)...)
			checkBreaker(t, b, "closed")
			time.Sleep(time.Second)
			report(t, b, Success, Failure)
			checkBreaker(t, b, "open")
		})
		bubble(t, BreakerConfig{Window: window}, func(t *testing.T, b *Breaker) {
			report(t, b, repeat(9, Success, Failure)...)
			time.Sleep(11 * time.Second)
			report(t, b, repeat(9, Success, Failure)...)
			checkBreaker(t, b, "closed")
		})
	}
}

func TestBreakerIgnoresLateResults(t *testing.T) {
	bubble(t, BreakerConfig{}, func(t *testing.T, b *Breaker) {
		success, _ := b.Allow()
		failure, _ := b.Allow()
		report(t, b, repeat(5, Failure)...)
		success.Done(Success)
		checkBreaker(t, b, "open")
		time.Sleep(time.Second + 1)
		checkBreaker(t, b, "half-open")
		failure.Done(Failure)
		checkBreaker(t, b, "half-open")
		report(t, b, Success)
		checkBreaker(t, b, "closed")
	})
}

func TestBreakerAdmitsNoMoreThanItsProbes(t *testing.T) {
	bubble(t, BreakerConfig{Probes: 3}, func(t *testing.T, b *Breaker) {
		report(t, b, repeat(5, Failure)...)
		time.Sleep(time.Second + 1)
		for _, o := range []Outcome{Neutral, Overload, Success} {
			var admitted atomic.Int64
			var wg sync.WaitGroup
			for range 1000 {
				wg.Go(func() {
					if p, ok := b.Allow(); ok {
						admitted.Add(1)
						time.Sleep(ms) // until all others have asked
						p.Done(o)
					}
				})
			}
			wg.Wait()
			if got, want := admitted.Load(), int64(3); got != want {
				t.Errorf("%d probes that end as %v, want %d", got, o, want)
			}
		}
		checkBreaker(t, b, "closed")
	})
}

// Whatever happened before: once the endpoint has healed, the breaker is closed after 2 x OpenFor.
func TestBreakerIsNeverStuck(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		c := BreakerConfig{Probes: 1 + rnd.Uint32N(3), Consecutive: 1 + rnd.Uint32N(5), OpenFor: time.Duration(1+rnd.IntN(20)) * 100 * ms}
		bubble(t, c, func(t *testing.T, b *Breaker) {
			var permits []Permit
			give := func(o Outcome) {
				i := rnd.IntN(len(permits))
				permits[i].Done(o)
				permits[i] = permits[len(permits)-1]
				permits = permits[:len(permits)-1]
			}
			for range 200 {
				switch rnd.IntN(3) {
				case 0:
					if p, ok := b.Allow(); ok {
						permits = append(permits, p)
					}
				case 1:
					if len(permits) > 0 {
						give(Outcome(rnd.IntN(4)))
					}
				case 2:
					time.Sleep(time.Duration(rnd.Int64N(int64(c.OpenFor))))
				}
				checkBreaker(t, b, b.State())
			}
			for len(permits) > 0 {
				give(Outcome(rnd.IntN(4)))
			}
			for healed := time.Now(); time.Since(healed) < 2*c.OpenFor; time.Sleep(c.OpenFor / 10) {
				if p, ok := b.Allow(); ok {
					p.Done(Success)
				}
			}
			if got, want := b.State(), "closed"; got != want {
				t.Errorf("seed %d: State() = %q, want %q", seed, got, want)
			}
		})
	}
}

func TestBreakerConfigIsValidated(t *testing.T) {
	for _, tt := range []struct {
		config BreakerConfig
		field  string
	}{
		{BreakerConfig{}, ""},
		{BreakerConfig{Ratio: 1, Window: 10 * ms, OpenFor: 1}, ""},
		{BreakerConfig{Ratio: 1.1}, "ratio"},
		{BreakerConfig{Ratio: -0.1}, "ratio"},
		{BreakerConfig{Ratio: math.NaN()}, "ratio"},
		{BreakerConfig{Window: 9 * ms}, "window"},
		{BreakerConfig{Window: -time.Second}, "window"},
		{BreakerConfig{OpenFor: -1}, "openFor"},
	} {
		checkField(t, tt.config.Validate(), tt.field)
	}
}

func BenchmarkBreaker(b *testing.B) {
	breaker := NewBreaker(BreakerConfig{})
	b.ReportAllocs()
	for b.Loop() {
		p, _ := breaker.Allow()
		p.Done(Success)
	}
}

func BenchmarkBreakerOpen(b *testing.B) {
	breaker, now, open := NewBreaker(BreakerConfig{}), time.Now(), false
	b.ReportAllocs()
	for b.Loop() {
		open = breaker.Open(now) || open
	}
	if open {
		b.Error("open")
	}
}

package resilience

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// tested is a breaker on synctest's clock, which gobreaker reads, too.
type tested struct {
	*Breaker
	base time.Time
}

func (b tested) now() time.Duration { return time.Since(b.base) }

func (b tested) allow() (Permit, bool) { return b.Allow(b.now()) }

func (b tested) done(p Permit, o Outcome) { p.Done(b.now(), o, 0) }

// bubble runs f on synctest's clock with a breaker.
func bubble(t *testing.T, c BreakerConfig, f func(t *testing.T, b tested)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, tested{NewBreaker(c), time.Now()}) })
}

// report makes attempts with the given outcomes, and fails the test if one is not admitted.
func (b tested) report(t *testing.T, outcomes ...Outcome) {
	t.Helper()
	for _, o := range outcomes {
		p, ok := b.allow()
		if !ok {
			t.Fatalf("attempt not admitted (%s)", b.State(b.now()))
		}
		b.done(p, o)
	}
}

// check checks the state, and that all that tells of it agrees.
func (b tested) check(t *testing.T, want BreakerState) {
	t.Helper()
	now := b.now()
	if got := b.State(now); got != want {
		t.Fatalf("State() = %q, want %q", got, want)
	}
	if got := b.Open(now); got != (want == BreakerOpen) {
		t.Fatalf("Open() = %v although %s", got, want)
	}
	if until := b.OpenUntil(); want == BreakerOpen && until <= now || want == BreakerClosed && until != 0 {
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
		want     BreakerState
	}{
		{"one of one", BreakerConfig{}, repeat(1, Failure), BreakerClosed},
		{"four in a row", BreakerConfig{}, repeat(4, Failure), BreakerClosed},
		{"five in a row", BreakerConfig{}, repeat(5, Failure), BreakerOpen},
		{"neutral outcomes do not end a row", BreakerConfig{}, repeat(5, Neutral, Failure), BreakerOpen},
		{"a success ends a row", BreakerConfig{MinRequests: 1000}, repeat(100, Failure, Failure, Failure, Failure, Success), BreakerClosed},
		{"half of 18", BreakerConfig{}, repeat(9, Success, Failure), BreakerClosed},
		{"half of 20", BreakerConfig{}, repeat(10, Success, Failure), BreakerOpen},
		{"a third", BreakerConfig{}, repeat(100, Success, Success, Failure), BreakerClosed},
		{"a third is too much", BreakerConfig{Ratio: 0.3}, repeat(7, Success, Success, Failure), BreakerOpen},
		{"overload and neutral", BreakerConfig{}, repeat(100, Overload, Neutral), BreakerClosed},
		{"overload and neutral are no volume", BreakerConfig{}, append(repeat(100, Overload, Neutral), repeat(9, Success, Failure)...), BreakerClosed},
		{"nonsense counts as unset", BreakerConfig{Ratio: -1, Window: -1, OpenFor: -1, SlowFactor: -1, Lease: -1}, append(repeat(20, Success, Success, Failure), repeat(4, Failure)...), BreakerOpen},
		{"more than all", BreakerConfig{Ratio: 2, SlowRatio: 2, Jitter: 2}, repeat(10, Success, Failure), BreakerOpen},
		{"no number", BreakerConfig{Ratio: math.NaN(), Jitter: math.NaN()}, repeat(10, Success, Failure), BreakerOpen},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, tt.config, func(t *testing.T, b tested) {
				b.report(t, tt.outcomes...)
				b.check(t, tt.want)
			})
		})
	}
}

func TestBreakerOpensHalfwayAndCloses(t *testing.T) {
	bubble(t, BreakerConfig{Probes: 2, Jitter: -1}, func(t *testing.T, b tested) {
		b.report(t, repeat(5, Failure)...)
		if got, want := b.OpenUntil(), time.Second; got != want {
			t.Errorf("OpenUntil() = %v, want %v", got, want)
		}
		if _, ok := b.allow(); ok {
			t.Error("an open breaker admits an attempt")
		}
		time.Sleep(time.Second - 1)
		b.check(t, BreakerOpen)
		time.Sleep(time.Nanosecond)
		b.check(t, BreakerHalfOpen)
		b.report(t, Success)
		b.check(t, BreakerHalfOpen)
		b.report(t, Failure)
		b.check(t, BreakerOpen)
		time.Sleep(2 * time.Second)
		b.report(t, Neutral, Overload, Neutral, Success, Success)
		b.check(t, BreakerClosed)
		b.report(t, repeat(4, Failure)...)
		b.check(t, BreakerClosed)
	})
	bubble(t, BreakerConfig{SlowAfter: time.Second, Jitter: -1}, func(t *testing.T, b tested) {
		b.report(t, repeat(5, Failure)...)
		time.Sleep(time.Second)
		p, _ := b.allow()
		p.Done(b.now(), Success, 2*time.Second)
		b.check(t, BreakerOpen)
	})
}

func TestBreakerStaysOpenLongerEachTime(t *testing.T) {
	bubble(t, BreakerConfig{Jitter: -1}, func(t *testing.T, b tested) {
		for range 2 {
			b.report(t, repeat(5, Failure)...)
			for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
				want *= time.Second
				if got := b.OpenUntil() - b.now(); got != want {
					t.Fatalf("open for %v, want %v", got, want)
				}
				time.Sleep(want)
				b.report(t, Failure)
			}
			time.Sleep(time.Minute)
			b.report(t, Success)
			b.check(t, BreakerClosed)
		}
	})
	bubble(t, BreakerConfig{Seed: 5, OpenFor: 10 * time.Second, MaxOpenFor: 25 * time.Second, Jitter: 0.4}, func(t *testing.T, b tested) {
		b.report(t, repeat(5, Failure)...)
		seen := map[time.Duration]bool{}
		for i := range 100 {
			least, most := 15*time.Second, 25*time.Second
			if i < 2 {
				least, most = time.Duration(6<<i)*time.Second, time.Duration(10<<i)*time.Second
			}
			d := b.OpenUntil() - b.now()
			if seen[d] = true; d < least || d > most {
				t.Fatalf("time %d: open for %v, want %v to %v", i, d, least, most)
			}
			time.Sleep(d)
			b.report(t, Failure)
		}
		if len(seen) < 90 {
			t.Errorf("%d different times of 100", len(seen))
		}
	})
}

// A bucket is a tenth of the window, rounded down: what is left of the window makes an eleventh. Half of the
// attempts fail; only the volume decides.
func TestBreakerWindowRolls(t *testing.T) {
	for _, window := range []time.Duration{10 * ms, 10*ms + 3, 95 * ms, time.Second / 3, 10 * time.Second, time.Hour + 7} {
		for _, tt := range []struct {
			volume time.Duration // attempts in a window
			want   BreakerState
		}{{17, BreakerClosed}, {24, BreakerOpen}} {
			bubble(t, BreakerConfig{Window: window, OpenFor: 24 * time.Hour}, func(t *testing.T, b tested) {
				for i := range 200 {
					p, _ := b.allow()
					b.done(p, Outcome(i%2)) // on the zero Permit, which an open breaker returns, nothing
					time.Sleep(window / tt.volume)
				}
				if got := b.State(b.now()); got != tt.want {
					t.Errorf("window %v, %d attempts in it: State() = %q, want %q", window, tt.volume, got, tt.want)
				}
			})
		}
	}
}

// A burst across the edge of two fixed windows would look like two small ones.
func TestBreakerSeesBurstsWhole(t *testing.T) {
	for _, window := range []time.Duration{-1 /* 10 s */, 10 * time.Second} {
		bubble(t, BreakerConfig{Window: window}, func(t *testing.T, b tested) {
			time.Sleep(9500 * ms)
			b.report(t, repeat(9, Success, Failure)...)
			b.check(t, BreakerClosed)
			time.Sleep(time.Second)
			b.report(t, Success, Failure)
			b.check(t, BreakerOpen)
		})
		bubble(t, BreakerConfig{Window: window}, func(t *testing.T, b tested) {
			b.report(t, repeat(9, Success, Failure)...)
			time.Sleep(11 * time.Second)
			b.report(t, repeat(9, Success, Failure)...)
			b.check(t, BreakerClosed)
		})
	}
}

func TestBreakerIgnoresLateResults(t *testing.T) {
	bubble(t, BreakerConfig{}, func(t *testing.T, b tested) {
		success, _ := b.allow()
		failure, _ := b.allow()
		b.report(t, repeat(5, Failure)...)
		b.done(success, Success)
		b.check(t, BreakerOpen)
		time.Sleep(time.Second)
		b.check(t, BreakerHalfOpen)
		b.done(failure, Failure)
		b.check(t, BreakerHalfOpen)
		b.report(t, Success)
		b.check(t, BreakerClosed)
	})
}

func TestBreakerAdmitsNoMoreThanItsProbes(t *testing.T) {
	bubble(t, BreakerConfig{Probes: 3}, func(t *testing.T, b tested) {
		b.report(t, repeat(5, Failure)...)
		time.Sleep(time.Second)
		for _, o := range []Outcome{Neutral, Overload, Success} {
			var admitted atomic.Int64
			var wg sync.WaitGroup
			for range 1000 {
				wg.Go(func() {
					if p, ok := b.allow(); ok {
						admitted.Add(1)
						time.Sleep(ms) // until all others have asked
						b.done(p, o)
					}
				})
			}
			wg.Wait()
			if got, want := admitted.Load(), int64(3); got != want {
				t.Errorf("%d probes that end as %v, want %d", got, o, want)
			}
		}
		b.check(t, BreakerClosed)
	})
}

func TestBreakerTakesLostPermitsBack(t *testing.T) {
	bubble(t, BreakerConfig{Probes: 2, Lease: 20 * time.Second}, func(t *testing.T, b tested) {
		b.report(t, repeat(5, Failure)...)
		time.Sleep(time.Second)
		lost, _ := b.allow()
		time.Sleep(5 * time.Second)
		_, _ = b.allow()
		time.Sleep(15*time.Second - 1)
		if _, ok := b.allow(); ok {
			t.Fatal("a third permit for two probes")
		}
		time.Sleep(time.Nanosecond)
		p, ok := b.allow()
		if !ok {
			t.Fatal("the permit did not come back when its lease was over")
		}
		b.done(lost, Failure) // late
		b.check(t, BreakerHalfOpen)
		b.done(p, Success)
		time.Sleep(5 * time.Second)
		b.report(t, Success)
		b.check(t, BreakerClosed)
	})
}

// Whatever happened before: once the endpoint has healed, the breaker is closed after what it stays open for, and a lease if
// permits were lost.
func TestBreakerIsNeverStuck(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		c := BreakerConfig{
			Probes: 1 + rnd.Uint32N(3), Consecutive: 1 + rnd.Uint32N(5), OpenFor: time.Duration(1+rnd.IntN(20)) * 100 * ms,
			Calls: uint32(rnd.IntN(2) * rnd.IntN(20)), Seed: seed + 1,
		}
		bubble(t, c, func(t *testing.T, b tested) {
			var permits []Permit
			for range 200 {
				switch rnd.IntN(4) {
				case 0:
					if p, ok := b.allow(); ok {
						permits = append(permits, p)
					}
				case 1, 2:
					if len(permits) > 0 {
						i := rnd.IntN(len(permits))
						if rnd.IntN(5) > 0 { // else it is lost
							b.done(permits[i], Outcome(rnd.IntN(4)))
						}
						permits[i] = permits[len(permits)-1]
						permits = permits[:len(permits)-1]
					}
				case 3:
					time.Sleep(time.Duration(rnd.Int64N(int64(c.OpenFor))))
				}
				b.check(t, b.State(b.now()))
			}
			left := max(b.OpenUntil()-b.now(), 0) + 10*time.Second + c.OpenFor
			if c.Calls > 0 { // the failures of a probation that has begun may open it once more
				left += min(c.OpenFor<<min(b.trips, 10), time.Minute)
			}
			for end := b.now() + left; b.now() <= end; time.Sleep(c.OpenFor / 10) {
				if p, ok := b.allow(); ok {
					b.done(p, Success)
				}
			}
			if got := b.State(b.now()); got != BreakerClosed {
				t.Errorf("seed %d: State() = %q, want %q", seed, got, BreakerClosed)
			}
		})
	}
}

func TestBreakerConfigIsValidated(t *testing.T) {
	for _, tt := range []struct {
		config BreakerConfig
		fields []string
	}{
		{BreakerConfig{}, nil},
		{BreakerConfig{Ratio: 1, Window: 10 * ms, OpenFor: 1, MaxOpenFor: 1, Jitter: -1, SlowFactor: 1, SlowRatio: 1}, nil},
		{BreakerConfig{Ratio: 1.1}, []string{"ratio"}},
		{BreakerConfig{Ratio: math.NaN(), SlowFactor: math.NaN(), SlowRatio: math.NaN(), Jitter: math.NaN()}, []string{"ratio", "slowFactor", "slowRatio", "jitter"}},
		{BreakerConfig{Window: 9 * ms}, []string{"window"}},
		{BreakerConfig{MaxOpenFor: time.Second, OpenFor: time.Minute}, []string{"maxOpenFor"}},
		{
			BreakerConfig{
				Ratio: -0.1, Window: -time.Second, Calls: 1e6, SlowAfter: -1, SlowFactor: 0.5, SlowRatio: -1, OpenFor: -1,
				MaxOpenFor: -1, Jitter: 2, Probes: 2000, Lease: -1,
			},
			[]string{"ratio", "window", "calls", "slowAfter", "slowFactor", "slowRatio", "openFor", "maxOpenFor", "jitter", "probes", "lease"},
		},
	} {
		checkFields(t, tt.config.Validate(), tt.fields...)
	}
}

func BenchmarkBreaker(b *testing.B) {
	for name, c := range map[string]BreakerConfig{"window": {}, "calls": {Calls: 100}, "slow": {SlowAfter: time.Second}, "learned": {SlowFactor: 3}} {
		b.Run(name, func(b *testing.B) {
			breaker, start := NewBreaker(c), time.Now()
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					now := time.Since(start)
					p, _ := breaker.Allow(now)
					p.Done(now, Success, ms)
				}
			})
		})
	}
}

func BenchmarkBreakerOpen(b *testing.B) {
	breaker, open := NewBreaker(BreakerConfig{}), false
	b.ReportAllocs()
	for b.Loop() {
		open = breaker.Open(time.Second) || open
	}
	if open {
		b.Error("open")
	}
}

// One panic must neither silence the observer for ever nor keep the lock, and what comes with it is told later.
func TestBreakerTellsAfterAnObserverPanicked(t *testing.T) {
	b := NewBreaker(BreakerConfig{})
	var got []BreakerState
	broken := true
	b.Observe(func(c BreakerChange) {
		if broken {
			broken = false
			_ = b.Force(2, BreakerDisabled) // waits for this call to end
			panic("no")
		}
		got = append(got, c.State)
	})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = b.Force(1, BreakerForcedOpen)
	}()
	if err := b.Force(3, BreakerClosed); err != nil {
		t.Fatal(err)
	}
	if want := []BreakerState{BreakerDisabled, BreakerClosed}; !slices.Equal(got, want) {
		t.Errorf("told of %v after the panic, want %v", got, want)
	}
}

func TestBreakerTellsOfItsChanges(t *testing.T) {
	b := NewBreaker(BreakerConfig{Consecutive: 2, Jitter: -1, OpenFor: time.Second})
	var got []BreakerChange
	b.Observe(func(c BreakerChange) {
		if c.State == BreakerOpen {
			if !b.mu.TryLock() {
				t.Error("told with the lock held")
			} else {
				b.mu.Unlock()
			}
		}
		got = append(got, c)
	})
	attempt := func(now time.Duration, o Outcome) {
		p, ok := b.Allow(now)
		if !ok {
			t.Fatalf("refused at %v", now)
		}
		p.Done(now, o, 0)
	}
	attempt(1, Failure)
	attempt(2, Failure)
	attempt(2+time.Second, Failure)
	attempt(2+3*time.Second, Success)
	_ = b.Force(9e9, BreakerForcedOpen)
	_ = b.Force(10e9, BreakerMetricsOnly)
	for range 3 { // what would have opened it
		attempt(11e9, Failure)
	}
	_ = b.Force(12e9, BreakerClosed)
	want := []BreakerChange{
		{State: BreakerOpen, At: 2, Until: 2 + time.Second},
		{State: BreakerHalfOpen, At: 2 + time.Second},
		{State: BreakerOpen, At: 2 + time.Second, Until: 2 + 3*time.Second},
		{State: BreakerHalfOpen, At: 2 + 3*time.Second},
		{State: BreakerClosed, At: 2 + 3*time.Second},
		{State: BreakerForcedOpen, At: 9e9, Forced: true},
		{State: BreakerMetricsOnly, At: 10e9, Forced: true},
		{State: BreakerClosed, At: 12e9, Forced: true},
	}
	if !slices.Equal(got, want) {
		t.Errorf("told of\n%+v, want\n%+v", got, want)
	}
}

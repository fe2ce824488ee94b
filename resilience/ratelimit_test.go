package resilience

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestRateLimitAllowsBurstsAndThenItsRate(t *testing.T) {
	l := NewRateLimit(RateLimitConfig{Rate: 10, Burst: 3})
	var got []time.Duration
	for now := time.Duration(0); now < time.Second; now += 10 * ms {
		if l.Allow(now) {
			got = append(got, now)
		}
		if now == 0 {
			for l.Allow(now) {
				got = append(got, now)
			}
		}
	}
	want := []time.Duration{0, 0, 0}
	for i := range 9 {
		want = append(want, time.Duration(i+1)*100*ms)
	}
	if !slices.Equal(got, want) {
		t.Errorf("calls begin at %v, want %v", got, want)
	}
	for _, n := range []int{3, 0} { // full again after a pause, and not fuller
		for range n {
			if !l.Allow(time.Hour) {
				t.Error("Allow() = false after a pause")
			}
		}
		if l.Allow(time.Hour) {
			t.Error("Allow() = true for more than the burst")
		}
	}
}

func TestRateLimitGivesTurnsInOrder(t *testing.T) {
	l := NewRateLimit(RateLimitConfig{Rate: 100, Burst: 1})
	for i, want := range []time.Duration{0, 10 * ms, 20 * ms} {
		if got, ok := l.Reserve(0, 20*ms); !ok || got != want {
			t.Errorf("call %d: Reserve() = %v, %v, want %v", i, got, ok, want)
		}
	}
	if got, ok := l.Reserve(0, 20*ms); ok || got != 30*ms {
		t.Errorf("Reserve() = %v, %v, want a refusal and 30ms", got, ok)
	}
	if got, ok := l.Reserve(5*ms, 25*ms); !ok || got != 25*ms {
		t.Errorf("Reserve() after a refusal = %v, %v, want 25ms: a refused call takes no turn", got, ok)
	}
}

func TestRateLimitTakesTurnsBack(t *testing.T) {
	l := NewRateLimit(RateLimitConfig{Rate: 100, Burst: 2})
	reserve := func(now, want time.Duration) {
		t.Helper()
		if got, ok := l.Reserve(now, time.Second); !ok || got != want {
			t.Fatalf("Reserve() = %v, %v, want %v", got, ok, want)
		}
	}
	reserve(0, 0)
	reserve(0, 0)
	reserve(0, 10*ms)
	reserve(3*ms, 17*ms)
	l.Cancel(3*ms, 17*ms)
	reserve(4*ms, 16*ms)
	l.Cancel(0, 10*ms) // another has asked since
	reserve(4*ms, 26*ms)
	l.Cancel(0, 0) // it began
	reserve(4*ms, 36*ms)
}

// In any time no more calls begin than the rate and the burst allow, and if enough ask, no fewer.
func TestRateLimitIsExact(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		c := RateLimitConfig{Rate: math.Exp(rnd.Float64()*20 - 6), Burst: 1 + rnd.IntN(20)}
		l := NewRateLimit(c)
		maxWait := time.Duration(rnd.ExpFloat64() / c.Rate * float64(time.Second) * 3)
		var begun []time.Duration
		var now time.Duration
		for range 300 {
			now += time.Duration(rnd.ExpFloat64() / c.Rate * float64(time.Second) / 2)
			if wait, ok := l.Reserve(now, maxWait); ok {
				begun = append(begun, now+wait)
			}
		}
		for i := range begun {
			for j := i; j < len(begun); j++ {
				if n, most := j-i+1, c.Rate*(begun[j]-begun[i]).Seconds()+float64(c.Burst); float64(n) > most*(1+1e-9) {
					t.Fatalf("%+v: %d calls begin within %v, want at most %v", c, n, begun[j]-begun[i], most)
				}
			}
		}
		if n, least := len(begun), 0.7*c.Rate*now.Seconds(); float64(n) < least {
			t.Errorf("%+v: %d calls begin within %v, want at least %.0f", c, n, now, least)
		}
	}
}

func TestRateLimitIsExactUnderConcurrency(t *testing.T) {
	l := NewRateLimit(RateLimitConfig{Rate: 1000, Burst: 50})
	var clock, begun atomic.Int64
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			for range 20 {
				if l.Allow(time.Duration(clock.Add(int64(10 * time.Microsecond)))) {
					begun.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if got, want := begun.Load(), int64(50+200); got > want || got < want-1 { // in 200 ms
		t.Errorf("%d calls begin, want %d", got, want)
	}
}

func TestRateLimitConfigIsValidated(t *testing.T) {
	for _, tt := range []struct {
		config RateLimitConfig
		fields []string
	}{
		{RateLimitConfig{Rate: 0.001}, nil},
		{RateLimitConfig{Rate: 1e6, Burst: 1e6}, nil},
		{RateLimitConfig{}, []string{"rate"}},
		{RateLimitConfig{Rate: math.NaN(), Burst: -1}, []string{"rate", "burst"}},
		{RateLimitConfig{Rate: 1e7, Burst: 2e6}, []string{"rate", "burst"}},
	} {
		checkFields(t, tt.config.Validate(), tt.fields...)
	}
	for _, c := range []RateLimitConfig{{}, {Rate: math.NaN(), Burst: -5}, {Rate: math.Inf(1), Burst: math.MaxInt}} {
		if l := NewRateLimit(c); !l.Allow(0) || l.Allow(0) && c.Burst <= 0 {
			t.Errorf("%+v: want a limit all the same", c)
		}
	}
}

func BenchmarkRateLimit(b *testing.B) {
	l := NewRateLimit(RateLimitConfig{Rate: 1e6, Burst: 1e6})
	start := time.Now()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.Allow(time.Since(start))
		}
	})
}

// checkFields checks that the mistakes are those in the given fields, in this order.
func checkFields(t *testing.T, err error, fields ...string) {
	t.Helper()
	var got []string
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			field, _, _ := strings.Cut(line, ": ")
			got = append(got, field)
		}
	}
	if !slices.Equal(got, fields) {
		t.Errorf("Validate() = %v, want fields %q", err, fields)
	}
}

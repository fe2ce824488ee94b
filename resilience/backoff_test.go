package resilience

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

func TestBackoffDoublesUpToItsMaximum(t *testing.T) {
	const longest = time.Duration(math.MaxInt64)
	for _, tt := range []struct {
		config BackoffConfig
		want   []time.Duration // interval of the retries
	}{
		{BackoffConfig{}, []time.Duration{25 * ms, 50 * ms, 100 * ms, 200 * ms, 250 * ms, 250 * ms}},
		{BackoffConfig{Base: -1, Max: -1}, []time.Duration{25 * ms, 50 * ms}},
		{BackoffConfig{Base: 10 * ms, Max: 15 * ms}, []time.Duration{10 * ms, 15 * ms, 15 * ms}},
		{BackoffConfig{Base: time.Second}, []time.Duration{time.Second, time.Second}},
		{BackoffConfig{Base: time.Second, Max: 100 * ms}, []time.Duration{100 * ms, 100 * ms}},
		{BackoffConfig{Base: longest / 2, Max: longest}, []time.Duration{longest / 2, longest, longest}},
	} {
		for i, want := range tt.want {
			got := tt.config.pause(i+1, math.MaxUint64)
			// The largest random word is just below 1.
			if diff := want - got; diff < 0 || float64(diff) > 1+float64(want)*1e-9 {
				t.Errorf("%+v: pause(%d) = %v, want just below %v", tt.config, i+1, got, want)
			}
			if got := tt.config.pause(i+1, 0); got != 0 {
				t.Errorf("%+v: pause(%d) = %v for the smallest random word, want 0", tt.config, i+1, got)
			}
		}
	}
	if got, want := (BackoffConfig{}).pause(1000, 1<<63), 125*ms; got != want {
		t.Errorf("pause(1000) = %v, want %v", got, want)
	}
}

// 10,000 draws with a fixed seed: the mean of full jitter is half of the interval (standard error 0.3 %), and
// each tenth gets its share (standard error 3 %).
func TestBackoffHasFullJitter(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	const n = 10_000
	var sum time.Duration
	var tenths [10]int
	for range n {
		d := BackoffConfig{}.pause(3, rnd.Uint64())
		if d < 0 || d >= 100*ms {
			t.Fatalf("pause(3) = %v, want [0, 100ms)", d)
		}
		sum += d
		tenths[d/(10*ms)]++
	}
	if mean := sum / n; mean < 49*ms || mean > 51*ms {
		t.Errorf("mean %v, want 50ms", mean)
	}
	for i, got := range tenths {
		if got < n/10*85/100 || got > n/10*115/100 {
			t.Errorf("%d draws in tenth %d, want about %d", got, i, n/10)
		}
	}
}

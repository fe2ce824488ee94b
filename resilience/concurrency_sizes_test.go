package resilience

import (
	"math"
	"testing"
	"time"
)

// Servers of every size do what they can from the first moment on, under every load and law of service, with the queue that
// the server half has by default.
func TestAdaptiveLimitsFitServersOfEverySize(t *testing.T) {
	type law struct {
		name string
		draw func(b *bench) float64
	}
	laws := []law{
		{"exponential", func(b *bench) float64 { return b.r.ExpFloat64() }},
		{"constant", func(*bench) float64 { return 1 }},
		{"lognormal", func(b *bench) float64 { return math.Exp(b.r.NormFloat64() - 0.5) }},
	}
	for _, algorithm := range []string{"gradient", "aimd"} {
		for _, law := range laws {
			for _, workers := range []int{2, 10, 50, 500} {
				if workers >= 50 && raceEnabled {
					continue
				}
				for _, load := range []float64{0.7, 1.1, 1.5, 3} {
					mean := 20 * time.Millisecond
					if workers >= 50 {
						mean = 60 * time.Millisecond
					}
					capacity := float64(workers) / mean.Seconds()
					b := newBench(LimitConfig{Algorithm: algorithm, Timeout: 5 * mean, Queue: 100}, workers, load*capacity, mean)
					b.timeout = 12 * mean
					b.law = func() float64 { return law.draw(b) }
					part := func(d time.Duration) float64 {
						b.run(d)
						return float64(b.good) / float64(b.good+b.bad+b.refused) / min(1, 1/load)
					}
					first := part(time.Second)
					rest := part(4 * time.Second)
					t.Logf("%s, %s, %d workers at %v: %.3f of what can be done in the first second, %.3f then; %d late, limit %d to %d",
						algorithm, law.name, workers, load, first, rest, b.bad, b.low, b.peak)
					if workers <= 50 && load < 1 && first < 0.99 {
						t.Errorf("%s, %s, %d workers at %v: %.3f ok in the first second, want all", algorithm, law.name, workers, load, first)
					}
					want := 0.85
					if load < 1 {
						want = 0.99
					} else if workers == 2 {
						want = 0.2 // half a dozen seconds pass until gradients have come down from 20 to so little
					}
					if rest < want {
						t.Errorf("%s, %s, %d workers at %v: %.3f of what can be done, want %v", algorithm, law.name, workers, load, rest, want)
					}
				}
			}
		}
	}
}

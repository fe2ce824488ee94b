package resilience

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"
)

// checkQuantile checks the promise of Latency: never too low, and hardly too high.
func checkQuantile(t *testing.T, name string, got, exact time.Duration) {
	t.Helper()
	if limit := exact + max(exact/8, latencyUnit); got < exact || got > limit {
		t.Errorf("%s = %v, want %v to %v", name, got, exact, limit)
	}
}

func TestLatencyQuantiles(t *testing.T) {
	rnd := rand.New(rand.NewPCG(6, 7))
	for name, draw := range map[string]func() time.Duration{
		"constant":    func() time.Duration { return 10 * ms },
		"bucket edge": func() time.Duration { return 8 * latencyUnit },
		"microscopic": func() time.Duration { return time.Duration(rnd.IntN(400_000)) },
		"uniform":     func() time.Duration { return time.Duration(rnd.Int64N(int64(time.Second))) },
		"exponential": func() time.Duration { return time.Duration(rnd.ExpFloat64() * float64(20*ms)) },
		"log-normal":  func() time.Duration { return time.Duration(math.Exp(rnd.NormFloat64()*2) * float64(5*ms)) },
		"bimodal": func() time.Duration {
			if rnd.IntN(50) == 0 {
				return 2 * time.Second
			}
			return ms
		},
	} {
		for _, n := range []int{minLatencySamples, refreshEvery, 10_048 /* 157 refreshes */} {
			var l Latency
			samples := make([]time.Duration, n)
			for i := range samples {
				samples[i] = draw()
				l.Observe(time.Second, samples[i])
			}
			slices.Sort(samples)
			p50, p99, ok := l.Quantiles()
			if !ok {
				t.Errorf("%s: nothing known after %d samples", name, n)
			}
			checkQuantile(t, name+": p50", p50, samples[(n+1)/2-1])
			checkQuantile(t, name+": p99", p99, samples[(n*99+99)/100-1])
		}
	}
}

func TestLatencyWaitsForEnoughSamples(t *testing.T) {
	var l Latency
	for i := range 2 * minLatencySamples {
		if _, _, ok := l.Quantiles(); ok != (i >= minLatencySamples) {
			t.Errorf("known = %v after %d samples", ok, i)
		}
		l.Observe(0, ms)
	}
}

func TestLatencyFollowsAChange(t *testing.T) {
	var l Latency
	now := time.Duration(0)
	observe := func(n int, d time.Duration) {
		for range n {
			now += 10 * ms
			l.Observe(now, d)
		}
	}
	observe(3000, 10*ms)
	// At most 2,000 samples are remembered: 20 slow ones are one in a hundred.
	observe(21+refreshEvery, 100*ms)
	_, p99, _ := l.Quantiles()
	checkQuantile(t, "p99 after 85 slow samples", p99, 100*ms)

	window := int(latencyWindow / (10 * ms))
	observe(2*window, 100*ms)
	p50, _, _ := l.Quantiles()
	checkQuantile(t, "p50 after two slow windows", p50, 100*ms)

	observe(2*window+refreshEvery, 10*ms)
	p50, p99, _ = l.Quantiles()
	checkQuantile(t, "p50 after two fast windows", p50, 10*ms)
	checkQuantile(t, "p99 after two fast windows", p99, 10*ms)
}

// With few samples the quantiles are those of two windows, computed when a window ends.
func TestLatencyLearnsFromLittleTraffic(t *testing.T) {
	var l Latency
	for i := range 33 {
		l.Observe(time.Duration(i)*latencyWindow/15, ms)
	}
	_, p99, _ := l.Quantiles()
	checkQuantile(t, "p99", p99, ms)
}

func TestLatencyForgetsDuringAPause(t *testing.T) {
	for begin := range time.Duration(2) {
		for pause := time.Duration(1); pause <= 5; pause++ {
			var l Latency
			for i := range time.Duration(2) {
				for range 100 {
					l.Observe((begin+i)*latencyWindow, time.Second)
				}
			}
			again := (begin + 1 + pause) * latencyWindow
			l.Observe(again, ms)
			_, p99, ok := l.Quantiles()
			if !ok {
				t.Error("what was learned is lost in a pause")
			}
			checkQuantile(t, "p99 just after a pause", p99, time.Second)
			for range refreshEvery {
				l.Observe(again, ms)
			}
			want := ms
			if pause == 1 { // the last window still counts
				want = time.Second
			}
			_, p99, _ = l.Quantiles()
			checkQuantile(t, "p99 after a pause", p99, want)
		}
	}
}

// An observer that was held up between the end of its attempt and Observe must not turn time back.
func TestLatencyKeepsWhatItHasWhenAnObserverIsLate(t *testing.T) {
	var l Latency
	for range refreshEvery - 1 {
		l.Observe(5*latencyWindow, time.Second)
	}
	l.Observe(4*latencyWindow, ms)
	p50, _, _ := l.Quantiles()
	checkQuantile(t, "p50", p50, time.Second)
	for range refreshEvery {
		l.Observe(5*latencyWindow, ms)
	}
	_, p99, _ := l.Quantiles()
	checkQuantile(t, "p99", p99, time.Second)
}

func TestLatencyTakesAnyDuration(t *testing.T) {
	longest := upperEdge(latencyBuckets - 1)
	if got, limit := longest, 17*time.Minute; got < limit {
		t.Errorf("longest latency %v, want at least %v", got, limit)
	}
	for d, want := range map[time.Duration]time.Duration{
		math.MinInt64: latencyUnit, -1: latencyUnit, 0: latencyUnit,
		24 * time.Hour: longest, math.MaxInt64: longest,
	} {
		for _, now := range []time.Duration{math.MinInt64, 0, math.MaxInt64} {
			var l Latency
			for range minLatencySamples {
				l.Observe(now, d)
			}
			if p50, p99, _ := l.Quantiles(); p50 != want || p99 != want {
				t.Errorf("samples of %v: Quantiles() = %v, %v, want %v", d, p50, p99, want)
			}
		}
	}
}

// Times come from many goroutines, so that old ones follow new ones.
func TestLatencyConcurrentUse(t *testing.T) {
	var l Latency
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range time.Duration(20_000) {
				l.Observe(i*5*ms, 10*ms)
				if p50, p99, ok := l.Quantiles(); ok {
					checkQuantile(t, "p50", p50, 10*ms)
					checkQuantile(t, "p99", p99, 10*ms)
				}
			}
		})
	}
	wg.Wait()
	if _, _, ok := l.Quantiles(); !ok {
		t.Error("nothing learned")
	}
}

func TestLatencyIsSmall(t *testing.T) {
	if got, limit := unsafe.Sizeof(Latency{}), uintptr(1500); got > limit {
		t.Errorf("%d bytes, want at most %d", got, limit)
	}
}

func FuzzBucket(f *testing.F) {
	for _, d := range []time.Duration{math.MinInt64, 0, latencyUnit - 1, latencyUnit, 8*latencyUnit - 1, time.Hour, math.MaxInt64} {
		f.Add(int64(d))
	}
	f.Fuzz(func(t *testing.T, n int64) {
		d := time.Duration(n)
		i := bucketOf(d)
		if i < 0 || i >= latencyBuckets {
			t.Fatalf("bucketOf(%v) = %d, out of range", d, i)
		}
		if d = max(d, 0); d < upperEdge(latencyBuckets-1) {
			checkQuantile(t, "upper edge", upperEdge(i), d)
		}
		if i > 0 && (upperEdge(i) <= upperEdge(i-1) || upperEdge(i-1) > d) {
			t.Errorf("%v is in bucket %d, from %v to %v", d, i, upperEdge(i-1), upperEdge(i))
		}
	})
}

func BenchmarkLatencyObserve(b *testing.B) {
	var l Latency
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for d := time.Duration(0); pb.Next(); d += 10 * time.Microsecond {
			l.Observe(d, d%(100*ms))
		}
	})
}

// The first answers may come in two windows.
func TestLatencyIsLearnedAcrossWindows(t *testing.T) {
	var l Latency
	for i := range minLatencySamples {
		if _, _, ok := l.Quantiles(); ok {
			t.Errorf("something is known after %d answers", i)
		}
		l.Observe(latencyWindow+time.Duration(i-minLatencySamples/2)*time.Millisecond, time.Second)
	}
	if p50, tail, ok := l.Quantiles(); !ok || p50 < time.Second || tail < time.Second {
		t.Errorf("Quantiles() = %v, %v, %v after %d answers, want a second", p50, tail, ok, minLatencySamples)
	}
}

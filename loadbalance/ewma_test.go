package loadbalance

import (
	"math"
	"sync"
	"testing"
	"time"
)

func near(got, want, tolerance float64) bool { return math.Abs(got-want) <= tolerance*math.Abs(want) }

func TestDecayIsExponential(t *testing.T) {
	for age := uint32(0); age < 200_000; age += 7 {
		want := math.Exp(-float64(age) * (1 << tickShift) / float64(decayTime))
		if got := decay(age); !near(got, want, 0.001) {
			t.Fatalf("decay(%d) = %v, want %v within 0.1 %%", age, got, want)
		}
		if decay(age+1) >= decay(age) {
			t.Fatalf("decay does not fall after %d ticks", age)
		}
	}
	if got := decay(0); got != 1 {
		t.Errorf("decay(0) = %v, want 1", got)
	}
	if got := decay(math.MaxUint32); got != 0 {
		t.Errorf("decay(max) = %v, want 0", got)
	}
}

func TestEWMA(t *testing.T) {
	const ms = time.Millisecond
	type sample struct{ at, latency time.Duration }
	for _, c := range []struct {
		name    string
		samples []sample
		at      time.Duration
		want    time.Duration
	}{
		{"first sample counts in full", []sample{{time.Second, 10 * ms}}, time.Second, 10 * ms},
		{"peak replaces", []sample{{1 * time.Second, 10 * ms}, {2 * time.Second, 500 * ms}}, 2 * time.Second, 500 * ms},
		{"peak replaces at once", []sample{{time.Second, 10 * ms}, {time.Second, 500 * ms}}, time.Second, 500 * ms},
		{"lower sample at the same tick has no weight", []sample{{time.Second, 500 * ms}, {time.Second, 10 * ms}}, time.Second, 500 * ms},
		{"lower sample is averaged in", []sample{{0, 100 * ms}, {10 * time.Second, 10 * ms}}, 10 * time.Second, 43109 * time.Microsecond},
		{"lower sample above the decayed average is, too", []sample{{0, 100 * ms}, {10 * time.Second, 50 * ms}}, 10 * time.Second, 68394 * time.Microsecond},
		{"decays without samples", []sample{{0, 100 * ms}}, 10 * time.Second, 36788 * time.Microsecond},
		{"late writer does not turn the time back", []sample{{10 * time.Second, 100 * ms}, {0, 10 * ms}}, 20 * time.Second, 36788 * time.Microsecond},
		{"late peak does not, either", []sample{{10 * time.Second, 50 * ms}, {0, 100 * ms}}, 20 * time.Second, 36788 * time.Microsecond},
		{"time wraps", []sample{{1<<32<<tickShift - 5*time.Second, 100 * ms}}, 1<<32<<tickShift + 5*time.Second, 36788 * time.Microsecond},
		{"first sample late in the first half of the wrap", []sample{{3 << 30 << tickShift, 100 * ms}}, 3 << 30 << tickShift, 100 * ms},
		{"nothing is below a nanosecond", []sample{{0, 0}}, 0, 1},
	} {
		var e ewma
		for _, s := range c.samples {
			e.observe(s.at, s.latency)
		}
		got, ok := e.at(c.at)
		if !ok || !near(got, float64(c.want), 0.002) {
			t.Errorf("%s: at(%v) = %v, %v, want %v", c.name, c.at, time.Duration(got), ok, c.want)
		}
	}
}

func TestEWMAWithoutSamplesIsUnknown(t *testing.T) {
	var e ewma
	if got, ok := e.at(time.Hour); ok {
		t.Errorf("at() = %v, true, want false", got)
	}
	e.raise(time.Second, unknownCost)
	if got, ok := e.at(time.Second); ok {
		t.Errorf("at() after a bound that teaches nothing = %v, true, want false", got)
	}
}

func TestRaiseIsALowerBound(t *testing.T) {
	const ms = time.Millisecond
	for _, bound := range []time.Duration{20 * ms, 60 * ms, 90 * ms, 400 * ms} {
		var e ewma
		e.observe(0, 100*ms)
		before, _ := e.at(10 * time.Second)
		e.raise(10*time.Second, bound)
		got, _ := e.at(10 * time.Second)
		if want := max(before, float64(bound)); got < want*0.9999 {
			t.Errorf("after raise(%v) = %v, want >= %v", bound, time.Duration(got), time.Duration(want))
		}
	}
}

func TestConcurrentObserversKeepThePeak(t *testing.T) {
	var e ewma
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 500 {
				e.observe(time.Second, time.Duration(i*16+g+1)*time.Microsecond)
			}
		})
	}
	wg.Wait()
	if got, _ := e.at(time.Second); !near(got, float64(8*time.Millisecond), 0.001) {
		t.Errorf("at() = %v, want 8ms, the largest sample", time.Duration(got))
	}
}

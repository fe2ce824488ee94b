package resilience

import (
	"fmt"
	"testing"
	"time"
)

func TestAIMDGrowsWhileInUseOnly(t *testing.T) {
	a := aimd{limit: 20, min: 3, max: 22, timeout: time.Second}
	for range 100 {
		a.observe(&sample{inflight: 9, outcome: Success, latency: 1})
	}
	if a.limit != 20 {
		t.Errorf("limit = %v although it is not in use, want 20", a.limit)
	}
	for range 1000 {
		a.observe(&sample{inflight: 11, outcome: Success, latency: 1})
	}
	if a.limit != 22 {
		t.Errorf("limit = %v, want the most, 22", a.limit)
	}
}

func TestAIMDBacksOff(t *testing.T) {
	for _, c := range []struct {
		name    string
		outcome Outcome
		latency time.Duration
		want    float64
	}{
		{"overload", Overload, 1, 19}, {"timeout", Failure, time.Second, 19}, {"slow success", Success, time.Second, 19.75},
		{"given up late", Neutral, time.Second, 19}, {"failure", Failure, 1, 20}, {"given up", Neutral, 1, 20},
	} {
		a := aimd{limit: 20, min: 3, max: 22, timeout: time.Second}
		if a.observe(&sample{outcome: c.outcome, latency: c.latency, inflight: 20}); a.limit != c.want {
			t.Errorf("%s: limit = %v, want %v", c.name, a.limit, c.want)
		}
		for range 1000 {
			a.observe(&sample{outcome: c.outcome, latency: c.latency, inflight: 20})
		}
		if c.want < 20 && a.limit != 3 {
			t.Errorf("%s: limit = %v, want the least, 3", c.name, a.limit)
		}
	}
}

// What brings a limit down is how many of a hundred calls go wrong, whatever it is.
func TestAIMDGoesByTheShareOfCallsThatGoWrong(t *testing.T) {
	for _, most := range []int{3, 20, 300, 1000} {
		for _, c := range []struct {
			outcome Outcome
			share   int // of a hundred
			falls   bool
		}{
			{Failure, 1, false}, {Failure, 5, false}, {Failure, 15, true}, {Failure, 100, true},
			{Success, 1, false}, {Success, 20, false}, {Success, 40, true}, {Success, 100, true},
		} {
			t.Run(fmt.Sprintf("%d: %d %% %v", most, c.share, c.outcome), func(t *testing.T) {
				a := aimd{limit: float64(most), min: 1, max: float64(most), timeout: time.Second}
				for i := range 100 * (most + 100) {
					s := sample{inflight: int(a.limit), outcome: Success, latency: 1}
					if i*c.share/100 != (i+1)*c.share/100 {
						s.outcome, s.latency = c.outcome, time.Second
					}
					if a.observe(&s); !c.falls && a.limit < float64(most)/3 {
						t.Fatalf("limit = %v, want about %d", a.limit, most)
					}
				}
				if c.falls && a.limit > 3 {
					t.Errorf("limit = %v, want about the least", a.limit)
				}
			})
		}
	}
}

// Where callers wait for 250 ms, a limit that goes by nothing else keeps a server from working for those who left.
func TestAIMDFindsWhatAServerCanAnswerInTime(t *testing.T) {
	for _, c := range []struct {
		workers int
		load    float64
		mean    time.Duration
		timeout time.Duration
		want    float64 // of what can be done
	}{
		{2, 1.5, 20 * time.Millisecond, 250 * time.Millisecond, 0.85},
		{50, 1.5, 60 * time.Millisecond, 250 * time.Millisecond, 0.85},
		{2, 1.5, 20 * time.Millisecond, 125 * time.Millisecond, 0.95},
		{50, 1.5, 60 * time.Millisecond, 100 * time.Millisecond, 0.95}, // a fifth takes more than that without queue
		{50, 0.7, 60 * time.Millisecond, 100 * time.Millisecond, 0.97},
	} {
		capacity := float64(c.workers) / c.mean.Seconds()
		b := newBench(LimitConfig{Algorithm: "aimd", Timeout: c.timeout}, c.workers, c.load*capacity, c.mean)
		b.timeout = 250 * time.Millisecond
		b.run(5 * time.Second)
		b.run(20 * time.Second)
		got := float64(b.good) / 20 / capacity / min(c.load, 1)
		t.Logf("%d workers at %v, timeout %v: %.3f of what can be done, %d too late, %d refused, limit %d to %d", c.workers, c.load, c.timeout, got, b.bad, b.refused, b.low, b.peak)
		if got < c.want {
			t.Errorf("%d workers at %v, timeout %v: %.3f of what can be done, want %v", c.workers, c.load, c.timeout, got, c.want)
		}
	}
}

// One in a hundred calls hangs: that is no reason to do less of the others.
func TestAIMDLeavesBigServicesAloneThatAreSlowNowAndThen(t *testing.T) {
	b := newBench(LimitConfig{Algorithm: "aimd", Timeout: 250 * time.Millisecond}, 600, 3000, 50*time.Millisecond)
	b.timeout = 250 * time.Millisecond
	b.law = func() float64 {
		if b.r.Float64() < 0.01 {
			return 20
		}
		return 1
	}
	b.run(10 * time.Second)
	share := float64(b.good) / float64(b.good+b.bad+b.refused)
	t.Logf("%.4f ok, %d refused, limit %d to %d", share, b.refused, b.low, b.peak)
	if share < 0.98 {
		t.Errorf("%.4f ok, want all but the hundredth that hangs", share)
	}
}

package loadbalance

import (
	"fmt"
	"testing"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// What brings a limit down is how many of a hundred attempts are late, whatever it is, and where it began.
func TestAdaptiveLimitGoesByTheShareOfLateAttempts(t *testing.T) {
	const bound = 100 * time.Millisecond
	for _, inflight := range []int64{1, 4, 50, 1000} {
		for _, tt := range []struct {
			late  int // of a hundred
			falls bool
		}{{0, false}, {5, false}, {20, false}, {40, true}, {100, true}} {
			t.Run(fmt.Sprintf("%d in flight, %d %% late", inflight, tt.late), func(t *testing.T) {
				var a adaptive
				most := 0.0
				for i := range 200 * int(inflight+100) {
					r := Report{Outcome: resilience.Success, Latency: 20 * time.Millisecond, Bound: bound}
					if i*tt.late/100 != (i+1)*tt.late/100 {
						r = Report{Outcome: resilience.Failure, Latency: bound, Bound: bound}
					}
					n := inflight
					if a.limit > 0 {
						n = min(n, int64(a.limit))
					}
					a.observe(time.Duration(i), &r, n, 1, 1e6)
					if most = max(most, a.limit); !tt.falls && a.limit > 0 && a.limit < float64(inflight) {
						t.Fatalf("limit = %v, want at least the %d in flight", a.limit, inflight)
					}
				}
				if want := max(2.5*float64(inflight), 3); most > want {
					t.Errorf("limit was %v, want at most %v: more is not in use", most, want)
				}
				if tt.falls && a.limit != 1 {
					t.Errorf("limit = %v, want the least", a.limit)
				}
			})
		}
	}
}

// Callers may have little more time than answers always take.
func TestAdaptiveLimitKnowsHowFastANodeCanBe(t *testing.T) {
	var a adaptive
	for i := range 1000 {
		latency := 80*time.Millisecond + time.Duration(i%10)*time.Millisecond/2
		a.observe(time.Duration(i), &Report{Outcome: resilience.Success, Latency: latency, Bound: 100 * time.Millisecond}, 10, 1, 1e6)
	}
	if a.limit > 0 && a.limit < 10 {
		t.Errorf("limit = %v where nothing waits, want none or at least the 10 in flight", a.limit)
	}
	for i := range 1000 {
		a.observe(time.Duration(i), &Report{Outcome: resilience.Success, Latency: 95 * time.Millisecond, Bound: 100 * time.Millisecond}, 10, 1, 1e6)
	}
	if a.limit == 0 || a.limit > 2 {
		t.Errorf("limit = %v where all is late, want 1", a.limit)
	}
}

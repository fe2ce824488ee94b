//go:build unix

package faulttest

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// bound says how a result misses what is promised, "" if it does not.
type bound func(result) string

func atMost[T ~int64 | ~float64](what string, limit T, of func(result) T) bound {
	return func(r result) string {
		if got := of(r); got > limit {
			return fmt.Sprintf("%s = %v, want at most %v", what, got, limit)
		}
		return ""
	}
}

func okAtLeast(share float64) bound {
	return func(r result) string {
		if got := r.okShare(); got < share {
			return fmt.Sprintf("share of good answers = %v (%d of %d failed), want at least %v", got, r.calls-r.ok, r.calls, share)
		}
		return ""
	}
}

func p99AtMost(d time.Duration) bound {
	return atMost("p99", d, func(r result) time.Duration { return r.p99 })
}

func p999AtMost(d time.Duration) bound {
	return atMost("p99.9", d, func(r result) time.Duration { return r.p999 })
}

func attemptsAtMost(n float64) bound {
	return atMost("attempts per call", n, func(r result) float64 { return r.perCall(r.attempts) })
}

func executionsAtMost(n float64) bound {
	return atMost("executions per call", n, func(r result) float64 { return r.perCall(r.executions) })
}

func shareAtMost(backend int, share float64) bound {
	return atMost("share of picks of the bad backend", share, func(r result) float64 { return r.share(backend) })
}

// measurements is how many are made at most until the machine was not too busy for one.
const measurements = 5

// promise measures and fails the test if a bound is missed. If calls were sent late, or backends stood still, which makes every
// figure worse, it measures anew, and in the end finds out who was to blame; see blame.
func promise(t *testing.T, measure func() result, bounds ...bound) {
	t.Helper()
	for n := 1; ; n++ {
		r := measure()
		var missed []string
		for _, b := range bounds {
			if text := b(r); text != "" {
				missed = append(missed, text)
			}
		}
		if len(missed) == 0 {
			return
		}
		if !r.held() {
			t.Logf("on a busy machine: %s", strings.Join(missed, "; "))
			if n == measurements {
				blame(t, r)
			}
			continue
		}
		for _, text := range missed {
			t.Error(text)
		}
		return
	}
}

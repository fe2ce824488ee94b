//go:build unix

package faulttest

import (
	"testing"
	"time"
)

// One of ten backends breaks under 70 % load.
func TestBrokenBackendIsNotSeen(t *testing.T) {
	const (
		backends = 10
		rate     = 700
	)
	// 100 requests a second each, and times as spread as those of real services.
	full := capacity{Workers: 2, Queue: 50, Mean: 20 * time.Millisecond}
	for _, p := range protocols {
		lasts := map[string]time.Duration{"HTTP": 12 * time.Second, "gRPC": 10 * time.Second}[p.name]
		t.Run(p.name, func(t *testing.T) {
			run := func(t *testing.T, what string, fault func(*backend)) result {
				return undisturbed(t, func() result {
					list := startBackends(t, backends, full)
					return newTrial(t, p, list, rate).run(t, what, rate, func(l *load) {
						l.until(2 * time.Second)
						fault(list[4])
						l.until(lasts)
					})
				})
			}
			healthyRun := run(t, "healthy", func(*backend) {})
			for _, fault := range []struct {
				name  string
				begin func(*testing.T, *backend)
			}{
				{"slow", func(t *testing.T, b *backend) { b.become(t, slow) }},
				{"flaky", func(t *testing.T, b *backend) { b.become(t, flaky) }},
				{"hanging", func(t *testing.T, b *backend) { b.become(t, hanging) }},
				{"killed", func(t *testing.T, b *backend) { b.kill(t) }},
			} {
				t.Run(fault.name, func(t *testing.T) {
					r := run(t, "one of 10 "+fault.name, func(b *backend) { fault.begin(t, b) })
					if r.ok < r.calls {
						t.Errorf("%d of %d calls failed", r.calls-r.ok, r.calls)
					}
					if want := 2 * healthyRun.p999; r.p999 > want {
						t.Errorf("p99.9 = %v, want at most %v, twice that without a fault", r.p999, want)
					}
					if got, want := r.perCall(max(r.attempts, r.executions)), 1.1; got > want {
						t.Errorf("attempts per call = %.3f, want at most %v", got, want)
					}
				})
			}
		})
	}
}

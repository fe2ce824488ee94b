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
				list := startBackends(t, backends, full)
				return newTrial(t, p, list, rate).run(t, what, rate, func(l *load) {
					l.until(2 * time.Second)
					fault(list[4])
					l.until(lasts)
				})
			}
			usual := run(t, "healthy", func(*backend) {})
			for n := 1; !usual.held(); n++ { // would make the bound wider
				if n == measurements {
					blame(t, usual)
				}
				usual = run(t, "healthy, once more", func(*backend) {})
			}
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
					promise(t, func() result {
						return run(t, "one of 10 "+fault.name, func(b *backend) { fault.begin(t, b) })
					}, okAtLeast(1), p999AtMost(2*usual.p999), attemptsAtMost(1.1), executionsAtMost(1.1))
				})
			}
		})
	}
}

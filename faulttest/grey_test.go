//go:build unix

package faulttest

import (
	"testing"
	"time"
)

// greyCapacity has room to spare: it is not load that makes calls fail here.
var greyCapacity = capacity{Workers: 8, Queue: 100, Mean: 10 * time.Millisecond}

const greyRate = 300

// greyFaults stops one backend for 5 s, and later kills another one for 2 s.
func greyFaults(t *testing.T, list []*backend) func(*load) {
	return func(l *load) {
		l.until(time.Second)
		list[1].stop(t)
		l.until(6 * time.Second)
		list[1].cont(t)
		l.until(7500 * time.Millisecond)
		list[3].kill(t)
		l.until(9500 * time.Millisecond)
		list[3].start(t)
		l.until(12 * time.Second)
	}
}

func TestGreyFailureIsHardlySeen(t *testing.T) {
	t.Parallel()
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			promise(t, func() result {
				list := startBackends(t, 5, greyCapacity)
				return newTrial(t, p, list, greyRate).run(t, "grey failure", greyRate, greyFaults(t, list))
			}, okAtLeast(0.999), p99AtMost(250*time.Millisecond), executionsAtMost(1.25))
		})
	}
}

// The faults are real: callers without the library see them. Both protocols share the backends, to save time.
func TestGreyFailureShowsWithoutMesh(t *testing.T) {
	t.Parallel()
	list := startBackends(t, 5, greyCapacity)
	loads := make([]*load, len(protocols)-1)
	for i, p := range protocols[1:] {
		loads[i] = startLoad(t, greyRate, p.plain(t, p.addrs(list)))
	}
	first := startLoad(t, greyRate, protocols[0].plain(t, protocols[0].addrs(list)))
	greyFaults(t, list)(first)
	for i, l := range append([]*load{first}, loads...) {
		r := l.stop()
		r.log(t, protocols[i].name+" round robin without retries, grey failure")
		if got, limit := r.okShare(), 0.98; got >= limit {
			t.Errorf("%s: share of good answers = %.4f, want less than %v", protocols[i].name, got, limit)
		}
	}
}

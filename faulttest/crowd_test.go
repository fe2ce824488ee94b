//go:build unix

package faulttest

import (
	"context"
	"sync/atomic"
	"testing"
	"time"
)

// crowd are clients that know nothing of one another, as those in different processes: each has a mesh of its own with
// default settings. Calls are made by one after the other.
type crowd struct {
	backends []*backend
	calls    []caller
	turn     atomic.Uint64
	lost     []atomic.Int64 // calls that failed, by client
}

// newCrowd puts n clients in front of backends. A second of load lets them connect and learn what is usual.
func newCrowd(t *testing.T, p protocol, list []*backend, n int, rate float64) *crowd {
	t.Helper()
	c := &crowd{backends: list, lost: make([]atomic.Int64, n)}
	for range n {
		m, _ := newMesh(t, static(p.addrs(list)))
		c.calls = append(c.calls, p.meshed(t, m, service))
	}
	l := startLoad(t, rate, c.call)
	l.until(time.Second)
	if r := l.stop(); r.ok < r.calls {
		r.log(t, p.name+" warm-up")
		if !r.held() {
			blame(t, r)
		}
		t.Fatal("calls failed before there was a fault")
	}
	return c
}

func (c *crowd) call(ctx context.Context) error {
	i := c.turn.Add(1) % uint64(len(c.calls))
	err := c.calls[i](ctx)
	if err != nil {
		c.lost[i].Add(1)
	}
	return err
}

// most returns the most calls that a client lost.
func (c *crowd) most() (n int64) {
	for i := range c.lost {
		n = max(n, c.lost[i].Load())
	}
	return n
}

// arrived returns how many requests each backend has begun to handle by its own log.
func (c *crowd) arrived(t *testing.T) []int {
	t.Helper()
	counts := make([]int, len(c.backends))
	for i, b := range c.backends {
		counts[i] = b.arrivals(t)
	}
	return counts
}

// minus returns the differences.
func minus(a, b []int) []int {
	d := make([]int, len(a))
	for i := range a {
		d[i] = a[i] - b[i]
	}
	return d
}

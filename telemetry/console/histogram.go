package console

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// buckets is how many a histogram of latencies has: four to an octave of microseconds (of 1,024 ns), up to 137 s, so that the middle of
// one is at most an eighth off. Two would be a quarter off, which hides a latency that has grown by half.
const buckets = 104

// bucketOf returns the bucket of a latency.
func bucketOf(d time.Duration) int {
	v := uint64(max(d, 0)) >> 10
	if v < 4 {
		return int(v)
	}
	octave := bits.Len64(v) - 1
	return min((octave-1)<<2|int(v>>(octave-2))&3, buckets-1)
}

// middle returns the latency in the middle of a bucket.
func middle(bucket int) time.Duration {
	if bucket < 4 {
		return time.Duration(bucket)<<10 + 512
	}
	octave, part := bucket>>2+1, bucket&3
	low, width := time.Duration(4+part)<<(octave-2), time.Duration(1)<<(octave-2)
	return low<<10 + width<<9
}

// counts is what a histogram has at one moment, or what came to it between two.
type counts [buckets]uint32

// histogram counts latencies. Its counts go round.
type histogram [buckets]atomic.Uint32

// into adds the counts.
func (h *histogram) into(c *counts) {
	for i := range h {
		c[i] += h[i].Load()
	}
}

// since returns what came since an earlier moment.
func (c *counts) since(old *counts) (d counts) {
	for i := range c {
		d[i] = c[i] - old[i]
	}
	return d
}

func (c *counts) add(d *counts) {
	for i := range c {
		c[i] += d[i]
	}
}

// quantiles returns the median and the 99th percentile, 0 if nothing was counted.
func (c *counts) quantiles() (p50, p99 time.Duration) {
	var all uint64
	for _, n := range c {
		all += uint64(n)
	}
	if all == 0 {
		return 0, 0
	}
	half, most := (all+1)/2, all-all/100
	var sum uint64
	for i, n := range c {
		if sum += uint64(n); n == 0 {
			continue
		}
		if p50 == 0 && sum >= half {
			p50 = middle(i)
		}
		if sum >= most {
			return p50, middle(i)
		}
	}
	return p50, p99
}

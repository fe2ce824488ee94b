package resilience

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Latency learns how long successful attempts of a route take. It keeps a histogram of the present and of
// the previous window, so that an answer rests on the last 10 to 20 seconds. Buckets are an eighth of an
// octave wide: a quantile is never too low, and too high by at most 12.5 %, or 64 us if that is more. What takes
// longer than 18 minutes counts as 18 minutes. A Latency is 1.4 KB.
//
// Observe is two atomic additions. The zero value is ready, and all methods are safe for concurrent use.
type Latency struct {
	// Tail is the upper quantile to keep. 0 means 0.99. It must not change after the first use.
	Tail float64

	windows [2]window
	epoch   atomic.Int64 // number of the present window; its parity chooses the slot

	// The quantiles are computed once per window and every so many samples, not once per call.
	p50, tail atomic.Int64
}

const (
	latencyWindow = 10 * time.Second
	// minLatencySamples is the volume below which a 99th percentile is guesswork.
	minLatencySamples = 20
	// refreshEvery is how many samples may go by before the quantiles are computed again: often enough to
	// follow a change within a second of modest traffic, rarely enough to cost nothing (160 loads).
	refreshEvery = 64

	latencyUnit    = 64 * time.Microsecond // width of the lowest buckets
	subBuckets     = 8
	latencyBuckets = 22 * subBuckets // up to 8 * 64 us * 2^21 = 18 min
)

type window struct {
	count   atomic.Int64
	buckets [latencyBuckets]atomic.Uint32
}

// Observe records an attempt that succeeded after d, at the given time on any monotonic scale.
func (l *Latency) Observe(now time.Duration, d time.Duration) {
	e := int64(now / latencyWindow)
	if old := l.epoch.Load(); e > old && l.epoch.CompareAndSwap(old, e) {
		l.turn(old, e)
	}
	i := l.epoch.Load() & 1
	w := &l.windows[i]
	w.buckets[bucketOf(d)].Add(1)
	if n := w.count.Add(1); n%refreshEvery == 0 || n+l.windows[1-i].count.Load() == minLatencySamples {
		l.refresh()
	}
}

// turn begins a window: the slot of the one before last is cleared for it.
func (l *Latency) turn(old, now int64) {
	l.refresh()
	l.windows[now&1].clear()
	if now-old > 1 { // Nothing happened for a whole window: what is in the other slot is out of date, too.
		l.windows[1-now&1].clear()
	}
}

func (w *window) clear() {
	w.count.Store(0)
	for i := range w.buckets {
		w.buckets[i].Store(0)
	}
}

// Quantiles returns the median and the upper quantile, and false while too little is known. What was
// learned is kept when traffic pauses.
func (l *Latency) Quantiles() (p50, tail time.Duration, ok bool) {
	tail = time.Duration(l.tail.Load())
	return time.Duration(l.p50.Load()), tail, tail > 0
}

func (l *Latency) refresh() {
	var sum [latencyBuckets]uint32
	var total uint32
	for i := range sum {
		sum[i] = l.windows[0].buckets[i].Load() + l.windows[1].buckets[i].Load()
		total += sum[i]
	}
	if total < minLatencySamples {
		return
	}
	l.p50.Store(int64(quantile(&sum, total-total/2)))
	above := 1 - l.Tail
	if l.Tail == 0 {
		above = 0.01
	}
	l.tail.Store(int64(quantile(&sum, total-uint32(float64(total)*above))))
}

// quantile returns the upper edge of the bucket that holds the sample of the given rank, counted from 1.
func quantile(sum *[latencyBuckets]uint32, rank uint32) time.Duration {
	var seen uint32
	for i, n := range sum {
		if seen += n; seen >= rank {
			return upperEdge(i)
		}
	}
	return upperEdge(latencyBuckets - 1)
}

// bucketOf maps a duration to its bucket: linear up to subBuckets units, then subBuckets to the octave.
func bucketOf(d time.Duration) int {
	u := uint64(max(d, 0) / latencyUnit)
	if u < subBuckets {
		return int(u)
	}
	octave := bits.Len64(u) - bits.Len64(subBuckets)
	i := (octave+1)*subBuckets + int(u>>octave) - subBuckets
	return min(i, latencyBuckets-1)
}

func upperEdge(i int) time.Duration {
	if i < subBuckets {
		return time.Duration(i+1) * latencyUnit
	}
	octave := i/subBuckets - 1
	return time.Duration(i%subBuckets+subBuckets+1) << octave * latencyUnit
}

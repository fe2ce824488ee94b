package sim

import (
	"math"
	"math/bits"
	"time"
)

// Series is what became of calls, or of the attempts that an endpoint got, second by second. They count as started when they
// begin, and as good or failed when they end. Attempts that their caller gave up may do neither.
//
// Methods are about the time from one moment up to another, in whole seconds. To the end is what to at 0 means.
type Series struct {
	seconds []second
	span    time.Duration
}

type second struct {
	started, attempts, good, failed int
	took                            time.Duration // all that were good
	latency                         *[buckets]uint32
}

func newSeries(span time.Duration) *Series {
	return &Series{seconds: make([]second, int(math.Ceil(span.Seconds()))), span: span}
}

func (s *Series) at(now time.Duration) *second {
	return &s.seconds[min(int(now/time.Second), len(s.seconds)-1)]
}

func (s *Series) begin(now time.Duration) { s.at(now).started++ }
func (s *Series) try(now time.Duration)   { s.at(now).attempts++ }

func (s *Series) finish(now time.Duration, ok bool, took time.Duration) {
	sec := s.at(now)
	if !ok {
		sec.failed++
		return
	}
	sec.good++
	sec.took += took
	if sec.latency == nil {
		sec.latency = new([buckets]uint32)
	}
	sec.latency[bucketOf(took)]++
}

// add adds what is in another series.
func (s *second) add(o *second) {
	s.started, s.attempts, s.good, s.failed = s.started+o.started, s.attempts+o.attempts, s.good+o.good, s.failed+o.failed
	s.took += o.took
	if o.latency != nil {
		if s.latency == nil {
			s.latency = new([buckets]uint32)
		}
		for i, n := range o.latency {
			s.latency[i] += n
		}
	}
}

// sumOf returns the sum of several series.
func sumOf(span time.Duration, list ...*Series) *Series {
	sum := newSeries(span)
	for _, s := range list {
		for i := range s.seconds {
			sum.seconds[i].add(&s.seconds[i])
		}
	}
	return sum
}

// total sums up a span of time, and returns how many seconds it has.
func (s *Series) total(from, to time.Duration) (sum second, seconds float64) {
	if to <= 0 || to > s.span {
		to = s.span
	}
	first, last := int(from/time.Second), int(math.Ceil(to.Seconds()))
	for i := max(first, 0); i < last; i++ {
		sum.add(&s.seconds[i])
	}
	return sum, max(min(float64(last), s.span.Seconds())-float64(first), 0)
}

// Started returns how many began.
func (s *Series) Started(from, to time.Duration) int {
	sum, _ := s.total(from, to)
	return sum.started
}

// Offered returns how many began per second.
func (s *Series) Offered(from, to time.Duration) float64 {
	sum, n := s.total(from, to)
	return float64(sum.started) / n
}

// Goodput returns how many ended well per second.
func (s *Series) Goodput(from, to time.Duration) float64 {
	sum, n := s.total(from, to)
	return float64(sum.good) / n
}

// Success returns the share of those that ended well, of all that ended; NaN if none did.
func (s *Series) Success(from, to time.Duration) float64 {
	sum, _ := s.total(from, to)
	return float64(sum.good) / float64(sum.good+sum.failed)
}

// Attempts returns how many attempts calls made.
func (s *Series) Attempts(from, to time.Duration) int {
	sum, _ := s.total(from, to)
	return sum.attempts
}

// Amplification returns the attempts per call; NaN without calls.
func (s *Series) Amplification(from, to time.Duration) float64 {
	sum, _ := s.total(from, to)
	return float64(sum.attempts) / float64(sum.started)
}

// Mean returns the mean latency of those that ended well, 0 if none did.
func (s *Series) Mean(from, to time.Duration) time.Duration {
	sum, _ := s.total(from, to)
	if sum.good == 0 {
		return 0
	}
	return sum.took / time.Duration(sum.good)
}

// Quantile returns a quantile of the latency of those that ended well, to 4 %; 0 if none did.
func (s *Series) Quantile(q float64, from, to time.Duration) time.Duration {
	sum, _ := s.total(from, to)
	rank := q * float64(sum.good)
	seen := 0.0
	if sum.good == 0 {
		return 0
	}
	for i, n := range sum.latency {
		if seen+float64(n) >= rank && n > 0 {
			low, high := edge(i), edge(i+1)
			return low + time.Duration(float64(high-low)*(rank-seen)/float64(n))
		}
		seen += float64(n)
	}
	return edge(buckets)
}

// steady is how many seconds goodput must last to count as recovered, and not as a lucky moment.
const steady = 3

// Recovery returns how long after a moment, most often the end of a fault, goodput is back to a share of what is offered for
// three seconds in a row. ok is false if that does not happen.
func (s *Series) Recovery(after time.Duration, share float64) (d time.Duration, ok bool) {
	run := 0
	for i := int(after / time.Second); i < len(s.seconds); i++ {
		if sec := &s.seconds[i]; float64(sec.good) >= share*float64(sec.started) {
			run++
		} else {
			run = 0
		}
		if run == steady {
			return time.Duration(i+1-steady)*time.Second - after.Truncate(time.Second), true
		}
	}
	return 0, false
}

// Buckets of latencies: linear below 16 units, then 16 to the octave, up to 40 minutes.
const (
	unit       = 10 * time.Microsecond
	subBuckets = 16
	buckets    = 25 * subBuckets
)

func bucketOf(d time.Duration) int {
	u := uint64(max(d, 0) / unit)
	if u < subBuckets {
		return int(u)
	}
	octave := bits.Len64(u) - bits.Len64(subBuckets)
	return min((octave+1)*subBuckets+int(u>>octave)-subBuckets, buckets-1)
}

// edge is where a bucket begins.
func edge(i int) time.Duration {
	if i < subBuckets {
		return time.Duration(i) * unit
	}
	octave := i/subBuckets - 1
	return time.Duration(i%subBuckets+subBuckets) << octave * unit
}

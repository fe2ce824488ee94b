package console

import (
	"math"
	"sync/atomic"
	"time"
)

const (
	// tick is the time between two points of a history. A second would cost twice the memory for two minutes.
	tick = 2 * time.Second
	// points is how many a history has: two minutes.
	points = 60
	// window and minute are how many ticks make 10 s and 60 s.
	window, minute = 5, 30
	// shards divide what all calls of a service write to among cores.
	shards = 4
	// turnover is after how many ticks the latencies of an endpoint make room: its quantiles are of the last one to two of these.
	turnover = 15
)

// tally is what was counted of calls or attempts. Those that say nothing, because their caller went away or a backup was faster, count in
// all, but have no latency.
type tally struct {
	latency histogram
	all     atomic.Uint32
	failed  atomic.Uint32
}

func (t *tally) count(d time.Duration, failed, neutral bool) {
	t.all.Add(1)
	if neutral {
		return
	}
	t.latency[bucketOf(d)].Add(1)
	if failed {
		t.failed.Add(1)
	}
}

// shard is the part of the counts of a service that some of its calls write to.
type shard struct {
	tally
	attempts, retries, backups, refused atomic.Uint32
	_                                   [64]byte // keeps neighbours off the cache line
}

// point is what was counted in a tick.
type point struct {
	all, failed uint32
	p50, p99    float32 // ms
}

// history is the points of the last ticks. It belongs to the sampler, under Console.mu.
type history struct {
	ring [points]point
	n    int // how many there have been
}

func (h *history) add(p point) {
	h.ring[h.n%points] = p
	h.n++
}

// last returns what came in the last k ticks, and how long these were.
func (h *history) last(k int) (all, failed uint64, d time.Duration) {
	k = min(k, h.n)
	for i := h.n - k; i < h.n; i++ {
		all, failed = all+uint64(h.ring[i%points].all), failed+uint64(h.ring[i%points].failed)
	}
	return all, failed, time.Duration(k) * tick
}

func (h *history) view() History {
	n := min(h.n, points)
	v := History{Rate: make([]float64, n), Errors: make([]float64, n), P50: make([]float64, n), P99: make([]float64, n)}
	for i := range n {
		p := &h.ring[(h.n-n+i)%points]
		v.Rate[i], v.Errors[i] = rate(uint64(p.all), tick), rate(uint64(p.failed), tick)
		v.P50[i], v.P99[i] = round(float64(p.p50)), round(float64(p.p99))
	}
	return v
}

// gauge watches a counter: it knows the count of the last ticks and all of it, beyond what the counter holds.
type gauge struct {
	seen uint32
	ring [window]uint32
	n    int
}

// sample takes what the counter has now.
func (g *gauge) sample(now uint32) {
	g.ring[g.n%window] = now - g.seen
	g.seen, g.n = now, g.n+1
}

func (g *gauge) rate() float64 {
	var sum uint64
	for _, n := range g.ring {
		sum += uint64(n)
	}
	return rate(sum, time.Duration(min(g.n, window))*tick)
}

// serviceCount counts the calls of a service.
type serviceCount struct {
	name   string
	shards [shards]shard

	kept ration // of explanations

	// What follows belongs to the sampler, under Console.mu.
	seen                                counts
	seenAll, seenFailed                 uint32
	all, failed                         uint64
	idle                                int // ticks since the last call
	history                             history
	latencies                           [minute]counts // of the last ticks
	lately                              counts         // their sum
	attempts, retries, backups, refused gauge
}

// shard returns one of the shards, by a duration: its microseconds are as good as random, and are there already.
func (s *serviceCount) shard(d time.Duration) *shard { return &s.shards[uint64(d)>>10%shards] }

// sums adds the shards up.
func (s *serviceCount) sums(c *counts) (all, failed, attempts, retries, backups, refused uint32) {
	for i := range s.shards {
		h := &s.shards[i]
		if c != nil {
			h.latency.into(c)
		}
		all, failed = all+h.all.Load(), failed+h.failed.Load()
		attempts, retries, backups, refused = attempts+h.attempts.Load(), retries+h.retries.Load(), backups+h.backups.Load(), refused+h.refused.Load()
	}
	return all, failed, attempts, retries, backups, refused
}

// sample takes note of what a tick has brought.
func (s *serviceCount) sample() {
	all, failed, attempts, retries, backups, refused := s.sums(nil)
	s.attempts.sample(attempts)
	s.retries.sample(retries)
	s.backups.sample(backups)
	s.refused.sample(refused)
	p := point{all: all - s.seenAll, failed: failed - s.seenFailed}
	came := &s.latencies[s.history.n%minute]
	if s.history.n >= minute {
		s.lately = s.lately.since(came)
	}
	*came = counts{}
	s.idle++
	if p.all > 0 {
		s.idle = 0
		var now counts
		s.sums(&now)
		*came = now.since(&s.seen)
		s.seen = now
		s.lately.add(came)
		p50, p99 := came.quantiles()
		p.p50, p.p99 = float32(millis(p50)), float32(millis(p99))
	}
	s.seenAll, s.seenFailed = all, failed
	s.all, s.failed = s.all+uint64(p.all), s.failed+uint64(p.failed)
	s.history.add(p)
}

// traffic returns what came in the last k ticks, at most a minute.
func (s *serviceCount) traffic(k int) Traffic {
	all, failed, d := s.history.last(k)
	sum := &s.lately
	if k < minute {
		sum = &counts{}
		for i := max(0, s.history.n-k); i < s.history.n; i++ {
			sum.add(&s.latencies[i%minute])
		}
	}
	p50, p99 := sum.quantiles()
	return Traffic{Rate: rate(all, d), Errors: share(failed, all), P50: round(millis(p50)), P99: round(millis(p99))}
}

// totals returns all that was counted until now.
func (s *serviceCount) totals() (all, failed uint64) {
	a, f, _, _, _, _ := s.sums(nil)
	return s.all + uint64(a-s.seenAll), s.failed + uint64(f-s.seenFailed)
}

// endpointCount counts the attempts at an endpoint. Those are spread over endpoints as it is: it has no shards.
type endpointCount struct {
	service *serviceCount
	tally

	// What follows belongs to the sampler, under Console.mu.
	seenAll, seenFailed uint32
	seen, first, second counts // at the last tick, and when the quantiles of two windows began
	history             history
}

func (e *endpointCount) sample() {
	all, failed := e.all.Load(), e.failed.Load()
	p := point{all: all - e.seenAll, failed: failed - e.seenFailed}
	if p.all > 0 {
		var now counts
		e.latency.into(&now)
		came := now.since(&e.seen)
		e.seen = now
		p50, p99 := came.quantiles()
		p.p50, p.p99 = float32(millis(p50)), float32(millis(p99))
	}
	e.seenAll, e.seenFailed = all, failed
	e.history.add(p)
	if e.history.n%turnover == 0 {
		e.first, e.second = e.second, e.seen
	}
}

func (e *endpointCount) traffic() Traffic {
	all, failed, d := e.history.last(window)
	came := e.seen.since(&e.first)
	p50, p99 := came.quantiles()
	return Traffic{Rate: rate(all, d), Errors: share(failed, all), P50: round(millis(p50)), P99: round(millis(p99))}
}

// routeCount counts the calls that a rule sent to a backend.
type routeCount struct {
	name string // of the rule
	tally

	seenAll, seenFailed uint32
	all                 uint64
	seen, first, second counts
	history             history
}

func (r *routeCount) sample() {
	all, failed := r.tally.all.Load(), r.tally.failed.Load()
	p := point{all: all - r.seenAll, failed: failed - r.seenFailed}
	r.seenAll, r.seenFailed, r.all = all, failed, r.all+uint64(p.all)
	if p.all > 0 {
		r.seen = counts{}
		r.latency.into(&r.seen)
	}
	r.history.add(p)
	if r.history.n%turnover == 0 {
		r.first, r.second = r.second, r.seen
	}
}

// rate returns how many came in a second.
func rate(n uint64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return round(float64(n) / d.Seconds())
}

// share returns the part of all, 0 if there are none.
func share(part, all uint64) float64 {
	if all == 0 {
		return 0
	}
	return round(float64(part) / float64(all))
}

// round leaves four digits, which are more than counts are good for, and none that only make text longer.
func round(v float64) float64 {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(v))))
	if math.IsInf(scale, 0) { // next to nothing
		return 0
	}
	if scale <= 1 {
		return math.Round(v)
	}
	return math.Round(v*scale) / scale
}

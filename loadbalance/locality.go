package loadbalance

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Locality keeps calls in the zone of the caller, where they are cheap, as long as its endpoints can carry them. What
// exceeds the health of the zone goes to the other zones of the same priority by the rule for priority levels. What exceeds
// its capacity does by a band of load, as in Linkerd's high-availability zonal load balancing: while the load is above the
// band, or the zone more than twice as slow as usual, and it is slower than the others, more and more calls leave it, and
// they return when it is not. Only what this caller sees is needed for that, not how many callers there are; one that gets
// less than an answer a second sees nothing. Further attempts of a call go to the zone as often as if zones did not
// matter, because what failed in one place may fail all over the zone. The zero value is off.
//
// Algorithms that hash calls to one endpoint do so within the zone and, for the calls that leave it, outside.
type Locality struct {
	// Zone is that of the caller, as it stands in discovery.Endpoint.Zone. Empty means that zones do not matter, and
	// neither do they where no endpoint is in it.
	Zone string
	// Late says that Zone is empty for now, and may be told by Balancer.SetZone.
	Late bool
	// Low and High bound the band: calls in flight per endpoint of the zone, which is their latency times their rate. 0
	// means 0.8 and 2.0, Linkerd's values. High must not be less than Low.
	Low, High float64
}

func (c Locality) withDefaults() Locality {
	if !(c.Low > 0) {
		c.Low = 0.8
	}
	if !(c.High > 0) {
		c.High = 2
	}
	c.High = max(c.High, c.Low)
	return c
}

// Validate names the first field that makes no sense. A Balancer takes such a field for 0 or for its bound.
func (c Locality) Validate() error {
	d := c.withDefaults()
	switch {
	case !(c.Low >= 0 && c.Low <= 1e6):
		return fmt.Errorf("low: must be between 0 and a million, got %v", c.Low)
	case !(c.High >= 0 && c.High <= 1e6):
		return fmt.Errorf("high: must be between 0 and a million, got %v", c.High)
	case c.High > 0 && c.High < d.Low:
		return fmt.Errorf("high: must not be less than low (%v), got %v", d.Low, c.High)
	}
	return nil
}

const (
	// bandTick is how often the part of the calls that may stay is decided. A tenth of it would see the same calls
	// again, ten times as much would let a zone that loses its capacity fill its queues for seconds.
	bandTick = 100 * time.Millisecond
	// cut and regain are by how much the part falls and grows in a tick: to a tenth within a second, but back in more than
	// two, and while the zone is n times slower than the others n*n times later, lest it is flooded before it has recovered.
	cut    = 0.8
	regain = .04
	// leastStay is the least part, so that it is seen when the zone recovers.
	leastStay = 0.02
	// unseen is the least part while it is not known whether the others are faster.
	unseen = 0.5
	// asked is the part that leaves a zone under pressure to learn how fast the others are.
	asked = 0.02
	// slower is how many times as slow as usual, and as the other zones, a zone is when calls begin to leave it, and even
	// when they return. A distance of next to nothing between them would make calls swing to and fro.
	slower = 2
	even   = 1.5
	// unusual is how many times its mean distance from what is usual a latency must be away to mean anything.
	unusual = 4
	// settle and accept are how fast what is usual follows what is: when the others are as slow or the zone is faster, and
	// when it is slower alone, which is to be found bad for as long as it may last.
	settle = 10 * time.Second
	accept = 5 * time.Minute
)

// locality is what a Balancer keeps for Locality: one band per priority. It outlives updates.
type locality struct {
	named atomic.Pointer[string] // the zone
	mu    sync.Mutex             // guards bands
	bands map[uint8]*band
}

func newLocality(zone string) *locality {
	l := &locality{bands: map[uint8]*band{}}
	l.named.Store(&zone)
	return l
}

// zone returns that of the caller, "" if zones do not matter.
func (l *locality) zone() string {
	if l == nil {
		return ""
	}
	return *l.named.Load()
}

// SetZone tells a Balancer whose Locality is Late in which zone the caller is. It takes effect with the next Update.
func (b *Balancer) SetZone(zone string) {
	if is := b.setup.Load(); is.locality != nil && is.cfg.Locality.Late {
		is.locality.named.Store(&zone)
	}
}

func (l *locality) band(priority uint8) *band {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.bands[priority]
	if b == nil {
		b = &band{}
		b.part.Store(math.Float64bits(1))
		l.bands[priority] = b
	}
	return b
}

// band decides which part of the calls may stay in the zone. It has no timer: a pick moves it on once a tick.
type band struct {
	next atomic.Int64  // when
	part atomic.Uint64 // float64 bits

	mu          sync.Mutex // guards what follows; never waited for
	last        time.Duration
	here, there pace
	usual       float64 // latency of the zone in seconds, 0 if unknown
	spread      float64 // how far it is from that, in the mean
}

func (b *band) stays() float64 { return math.Float64frombits(b.part.Load()) }

// due reports whether it is time to decide, to one caller only.
func (b *band) due(now time.Duration) bool {
	next := b.next.Load()
	return int64(now) >= next && b.next.CompareAndSwap(next, int64(now+bandTick))
}

// decide moves the band on by the time passed, given how the zone and the others do now. It reports whether the part that
// stays has changed.
func (b *band) decide(cfg *Locality, passed time.Duration) bool {
	latency, known := b.here.latency()
	ratio := 1.0
	if known {
		ratio = math.Inf(1)
		if l, ok := b.there.latency(); ok {
			ratio = latency / l
		}
		b.settle(passed, latency, ratio)
	}
	pressed := b.here.load > cfg.High || latency > b.usual+max((slower-1)*b.usual, unusual*b.spread)
	before := b.stays()
	part, most := before, 1.0
	if pressed {
		most -= asked
	}
	switch {
	case pressed && ratio > slower:
		least := leastStay
		if math.IsInf(ratio, 1) {
			least = min(part, unseen)
		}
		part = max(part*cut, least)
	case b.here.load < cfg.Low || ratio < even:
		part += regain / max(1, ratio*ratio)
	}
	part = min(part, most)
	b.part.Store(math.Float64bits(part))
	return part != before
}

// settle takes the latency into what is usual.
func (b *band) settle(passed time.Duration, latency, ratio float64) {
	if b.usual == 0 {
		b.usual = latency
		return
	}
	follow := func(v *float64, x float64, within time.Duration) {
		*v += (x - *v) * -math.Expm1(-float64(passed)/float64(within))
	}
	off := math.Abs(latency - b.usual)
	within := accept
	if latency < b.usual || ratio < even {
		within = settle
	}
	follow(&b.usual, latency, within)
	if ratio < slower || off < unusual*b.spread {
		within = settle
	}
	follow(&b.spread, off, within)
}

// pace is how the nodes of a level do, by what this caller saw of late. A good answer takes the time that was spent, on it
// or on failures, over the number of answers. So it does by Little's law if time is counted as calls in flight per time,
// which shows before any call has ended that they do not; that is exact enough where there are many.
type pace struct {
	load float64 // calls in flight per node
	// Good answers, and the time spent on them by calls that ended, and by those in flight, in seconds.
	answers, spent, flying float64
}

const (
	// paceMemory is how long what was seen counts, or as long as it takes to see enough answers, but no longer than about
	// maxPaceMemory: a caller with few calls must not go by what two of them met, nor by what was long ago.
	paceMemory    = 300 * time.Millisecond
	enough        = 15
	maxPaceMemory = 3 * time.Second
	// fewest is how many answers make something known.
	fewest = 3
)

// add takes in what was seen in the time passed.
func (p *pace) add(passed time.Duration, load, answers, spent, flying float64) {
	keep := math.Exp(-float64(passed) / float64(paceMemory))
	if p.answers > 0 {
		keep = min(max(keep, (enough-answers)/p.answers), math.Exp(-float64(passed)/float64(maxPaceMemory)))
	}
	p.load += (load - p.load) * -math.Expm1(-float64(passed)/float64(paceMemory))
	p.answers = p.answers*keep + answers
	p.spent = p.spent*keep + spent
	p.flying = p.flying*keep + flying
}

// latency returns what a good answer takes, in seconds.
func (p *pace) latency() (float64, bool) {
	if p.answers < fewest {
		return 0, false
	}
	return max(p.spent, p.flying) / p.answers, true
}

// measure moves on the bands that are due. It reports whether one has changed.
func (s *Set) measure(now time.Duration) (changed bool) {
	for i := range s.levels {
		b := s.levels[i].band
		if b == nil || !b.due(now) || !b.mu.TryLock() {
			continue
		}
		passed := min(now-b.last, time.Minute)
		b.last = now
		s.levels[i].measure(&b.here, passed)
		s.levels[i].around.measure(&b.there, passed)
		if b.decide(&s.setup.cfg.Locality, passed) {
			changed = true
		}
		b.mu.Unlock()
	}
	return changed
}

// measure takes in how the nodes in service do, or some of them if they are many: always the same, of whom it is known
// what was new the last time.
func (l *level) measure(p *pace, passed time.Duration) {
	var answers, inflight, serving int64
	var spent time.Duration
	step := 1 + (len(l.nodes)-1)/compared
	for i := 0; i < len(l.nodes); i += step {
		n := l.nodes[i]
		k, d := n.health.Load().toll.since()
		if n.out.Load() != 0 {
			continue
		}
		serving++
		inflight += n.inflight.Load()
		answers += k
		spent += d
	}
	flying := float64(inflight) * min(passed, 3*bandTick).Seconds()
	p.add(passed, float64(inflight)/float64(max(serving, 1)), float64(answers), spent.Seconds(), flying)
}

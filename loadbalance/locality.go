package loadbalance

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Locality keeps calls in the zone of the caller, where they are cheap, as long as its endpoints can carry them. What
// exceeds the health of the zone goes to the other zones of the same priority by the rule for priority levels. What exceeds
// its capacity does by a band of load, as in Linkerd's high-availability zonal load balancing: above the band, and while
// the zone is slower than the others, more and more calls leave it, and below the band they return. Only what this
// caller sees is needed for that, not how many callers there are. The zero value is off.
//
// Algorithms that hash calls to one endpoint do so within the zone and, for the calls that leave it, outside.
type Locality struct {
	// Zone is that of the caller, as it stands in discovery.Endpoint.Zone. Empty means that zones do not matter, and
	// neither do they where no endpoint is in it.
	Zone string
	// Low and High bound the band: calls in flight per endpoint of the zone, which is their latency times their rate. 0
	// means 0.8 and 2.0, Linkerd's values. High must not be less than Low. Callers with little in flight keep to
	// their zone until endpoints are ejected.
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
	// bandMemory smooths the load, which is a small number of calls that come and go.
	bandMemory = 300 * time.Millisecond
	// cut and regain are by how much the part falls and grows in a tick: to a fifth within a second, but back in five, and
	// while the zone is n times slower than the others n*n times later, lest it is flooded before it has recovered.
	cut    = 0.8
	regain = 0.02
	// leastStay is the least part, so that it is seen when the zone recovers.
	leastStay = 0.02
	// asked is the part that leaves a busy zone to learn how fast the others are.
	asked = 0.02
	// slower is how many times the latency of the other zones that of the zone is when calls begin to leave it, and even
	// when they return. A distance of next to nothing between them would make calls swing to and fro.
	slower = 2
	even   = 1.5
)

// locality is what a Balancer keeps for Locality: one band per priority. It outlives updates.
type locality struct {
	cfg   Locality
	mu    sync.Mutex // guards bands
	bands map[uint8]*band
}

func newLocality(cfg Locality) *locality {
	return &locality{cfg: cfg.withDefaults(), bands: map[uint8]*band{}}
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
	load atomic.Uint64 // float64 bits of the smoothed load
}

func (b *band) stays() float64 { return math.Float64frombits(b.part.Load()) }

// due reports whether it is time to decide, to one caller only, and how long ago that was last so.
func (b *band) due(now time.Duration) (time.Duration, bool) {
	next := b.next.Load()
	if int64(now) < next || !b.next.CompareAndSwap(next, int64(now+bandTick)) {
		return 0, false
	}
	return now - time.Duration(next) + bandTick, true
}

// decide moves the band on by the time passed, given the load of the zone's endpoints and how many times the latency of the
// others theirs is, infinitely many if that of the others is unknown. It reports whether the part that stays has changed.
func (b *band) decide(cfg *Locality, passed time.Duration, load, ratio float64) bool {
	old := math.Float64frombits(b.load.Load())
	load = old + (load-old)*-math.Expm1(-float64(passed)/float64(bandMemory))
	b.load.Store(math.Float64bits(load))
	before := b.stays()
	part, most := before, 1.0
	if load > cfg.High {
		most -= asked
	}
	switch {
	case load > cfg.High && ratio > slower:
		part = max(part*cut, leastStay)
	case load < cfg.Low || ratio < even:
		part += regain / max(1, ratio*ratio)
	}
	part = min(part, most)
	b.part.Store(math.Float64bits(part))
	return part != before
}

// measure moves on the bands that are due. It reports whether one has changed.
func (s *Set) measure(now time.Duration, r uint64) (changed bool) {
	for i := range s.levels {
		l := &s.levels[i]
		if l.band == nil {
			continue
		}
		passed, ok := l.band.due(now)
		if !ok {
			continue
		}
		load, here := l.state(r)
		_, there := s.levels[i+1].state(r)
		ratio := here / there
		if here == 0 { // nothing is known
			ratio = 1
		}
		if l.band.decide(&s.balancer.locality.cfg, passed, load, ratio) {
			changed = true
		}
	}
	return changed
}

// state returns the mean number of calls in flight of the nodes in service, and the median of their latencies, 0 if
// nothing is known, as seen in a part of them if they are many.
func (l *level) state(r uint64) (load, latency float64) {
	var latencies [compared]float32
	var inflight int64
	timed, serving := 0, 0
	start := index(r, len(l.nodes))
	for k := range min(len(l.nodes), compared) {
		n := l.nodes[(start+k)%len(l.nodes)]
		if n.out.Load() != 0 {
			continue
		}
		serving++
		inflight += n.inflight.Load()
		if t := n.health.average(); t > 0 {
			latencies[timed] = t
			timed++
		}
	}
	if timed > 0 {
		slices.Sort(latencies[:timed])
		latency = float64(latencies[timed/2])
	}
	return float64(inflight) / float64(max(serving, 1)), latency
}

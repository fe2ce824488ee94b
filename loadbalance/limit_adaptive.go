package loadbalance

import (
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// adaptive finds out how many attempts a node can answer in time. An attempt is late if it takes more than half of what was
// left for it to take, beyond what attempts take when nothing waits, or if it is refused for overload: half way to where
// answers find nobody who waits for them. There is no limit until one is.
//
// The limit falls by a half and grows by a fifth for each round of attempts, those that are in flight together, of which each
// moves it by its part. So it comes to rest where 0.2/(0.2+0.5), three in ten, are late, be it a limit of one or of a
// thousand, and what is late for other reasons does not bring it down as long as it is less. The additive increase of TCP has
// no such point: where one in a hundred attempts is lost whatever the load, it rests at the root of 2/p, 14 attempts, which
// is an outage where hundreds are needed.
type adaptive struct {
	limit float64       // 0 if there is none
	peak  float64       // attempts in flight
	base  float64       // of latency, in ns; 0 if it is not known
	wrong time.Duration // when an attempt last was late
}

const (
	limitFall, limitGrowth = 0.5, 0.2
	// limitMemory is how long no attempt must be late before the limit is lifted.
	limitMemory = 10 * time.Second
	// peakDecay is the part of the way that an attempt moves the peak down. A late attempt comes back when most of those
	// that began with it have long done so: what is in flight then is not what made it late.
	peakDecay = 1. / 64
	// The base follows what is faster than it soon and what is slower hardly ever, so that it stays near the fastest ones.
	baseFall, baseGrowth = 1. / 8, 1. / 1000
)

// observe learns from an attempt that has ended, with which so many were in flight.
func (a *adaptive) observe(now time.Duration, r *Report, inflight int64, least, most float64) {
	n := float64(max(inflight, 1))
	a.peak = max(n, a.peak+(n-a.peak)*peakDecay)
	switch {
	case r.Outcome == resilience.Overload || r.Bound > 0 && float64(r.Latency) >= a.patience(r.Bound):
		a.wrong = now
		if a.limit == 0 {
			a.limit = 2 * a.peak
		}
		a.limit = min(max(a.limit*(1-limitFall/a.peak), least), most)
	case r.Outcome != resilience.Success:
		return
	case a.limit > 0 && now-a.wrong > limitMemory:
		a.limit = 0
	case a.limit > 0 && 2*a.peak >= a.limit: // what is not in use tells nothing, and would be of no use when it is needed
		a.limit = min(a.limit*(1+limitGrowth/a.peak), most)
	}
	if r.Outcome == resilience.Success && r.Latency > 0 {
		a.learn(float64(r.Latency))
	}
}

// patience returns from what latency on an attempt is late that could take so long.
func (a *adaptive) patience(bound time.Duration) float64 { return (a.base + float64(bound)) / 2 }

func (a *adaptive) learn(latency float64) {
	switch {
	case a.base == 0:
		a.base = latency
	case latency < a.base:
		a.base += (latency - a.base) * baseFall
	default:
		a.base += (latency - a.base) * baseGrowth
	}
}

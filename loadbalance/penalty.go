package loadbalance

import (
	"sync/atomic"
	"time"
)

// penaltyCost is what a failing node is taken to cost. Failures are often fast, and a balancer that
// looks at latency or load alone sends its traffic where it fails fastest.
const penaltyCost = 5 * time.Second

// A failure keeps a node out of the comparison for a while, a failure of the attempt that then tries it for
// twice as long. The first pause is short, since every service loses a call now and then and must
// not lose a node for it; the last one bounds how late a healed node is found.
const (
	firstPenalty  = 200 * time.Millisecond
	secondPenalty = time.Second
	maxPenalty    = 60 * time.Second
)

// penalty remembers the failures of a node in a row. Times are nanoseconds after the base of the node.
type penalty struct {
	until  atomic.Int64 // the node is avoided before this
	failed atomic.Int64 // when the last failure that counted was seen
	streak atomic.Int32 // failures that counted since the last success
}

func (p *penalty) active(now time.Duration) bool { return int64(now) < p.until.Load() }

// fail records the failure of an attempt made at start. pause is what the server asked for. The random word
// r spreads the return of a node over its callers.
//
// Of all attempts that were under way at the first failure only that one counts: one crash that takes
// down a hundred calls is one failure.
func (p *penalty) fail(start, now, pause time.Duration, r uint64) {
	last := p.failed.Load()
	if p.streak.Load() > 0 && int64(start) <= last {
		p.extend(now + min(pause, maxPenalty))
		return
	}
	if !p.failed.CompareAndSwap(last, max(int64(now), 1)) {
		return
	}
	wait := jitter(penaltyAfter(p.streak.Add(1)), r)
	p.extend(now + max(wait, min(pause, maxPenalty)))
}

func (p *penalty) extend(until time.Duration) {
	for old := p.until.Load(); int64(until) > old; old = p.until.Load() {
		if p.until.CompareAndSwap(old, int64(until)) {
			return
		}
	}
}

// succeed ends the streak, unless the attempt was made before the last failure.
func (p *penalty) succeed(start time.Duration) {
	if p.streak.Load() > 0 && int64(start) > p.failed.Load() {
		p.streak.Store(0)
		p.until.Store(0)
	}
}

// try is told that an attempt on the node begins. The first one after a penalty is a probe: until it has
// ended, or for as long as its failure would count, others keep away.
func (p *penalty) try(now time.Duration) {
	n := p.streak.Load()
	if n == 0 {
		return
	}
	if until := p.until.Load(); int64(now) >= until {
		p.until.CompareAndSwap(until, int64(now+penaltyAfter(n+1)))
	}
}

func penaltyAfter(streak int32) time.Duration {
	if streak <= 1 {
		return firstPenalty
	}
	return min(secondPenalty<<min(streak-2, 16), maxPenalty)
}

// jitter returns a time between half and one and a half of d.
func jitter(d time.Duration, r uint64) time.Duration {
	return d/2 + time.Duration(float64(d)*float64(r>>11)/(1<<53))
}

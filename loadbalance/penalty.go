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
	until atomic.Int64 // the node is avoided before this
	// The failures that counted since the last success and when the last of them was seen, in one word
	// (see packStreak), so that of many failures at once exactly one counts.
	streak atomic.Uint64
}

// packStreak puts a time, in units of 1.02 us, above a streak of at most 255.
func packStreak(at time.Duration, streak int) uint64 {
	return stamp(at)<<8 | uint64(min(streak, 255))
}

func stamp(at time.Duration) uint64 { return uint64(max(at, 0)) >> 10 }

func (p *penalty) active(now time.Duration) bool { return int64(now) < p.until.Load() }

// repeated reports whether the penalty is active and not for a single failure. A service that loses a call now and
// then has most of its nodes under a penalty when it is busy enough; were they all passed over, what is left
// would get everything.
func (p *penalty) repeated(now time.Duration) bool { return p.active(now) && p.streak.Load()&255 > 1 }

// fail records the failure of an attempt made at start. pause is what the server asked for. The random word
// r spreads the return of a node over its callers.
//
// Of all attempts that were under way at the first failure only that one counts: one crash that takes
// down a hundred calls is one failure.
func (p *penalty) fail(start, now, pause time.Duration, r uint64) {
	pause = min(pause, maxPenalty)
	for {
		old := p.streak.Load()
		streak := int(old & 255)
		if streak > 0 && stamp(start) <= old>>8 {
			break
		}
		if p.streak.CompareAndSwap(old, packStreak(now, streak+1)) {
			pause = max(pause, jitter(penaltyAfter(streak+1), r))
			break
		}
	}
	until := int64(now + pause)
	for old := p.until.Load(); until > old; old = p.until.Load() {
		if p.until.CompareAndSwap(old, until) {
			return
		}
	}
}

// soften makes the next failure count as the second in a row at most: where all nodes fail, how long they did tells
// nothing about any of them.
func (p *penalty) soften() {
	if old := p.streak.Load(); old&255 > 1 {
		p.streak.CompareAndSwap(old, old&^255|1)
	}
}

// succeed ends the streak, unless the attempt was made before the last failure.
func (p *penalty) succeed(start time.Duration) {
	until := p.until.Load()
	old := p.streak.Load()
	if old&255 > 0 && stamp(start) > old>>8 && p.streak.CompareAndSwap(old, old&^255) {
		p.until.CompareAndSwap(until, 0)
	}
}

// try is told that an attempt on the node begins. The first one after a penalty is a probe: until it has
// ended, or for the shortest time that its failure would count, others keep away.
func (p *penalty) try(now time.Duration) {
	streak := int(p.streak.Load() & 255)
	if streak == 0 {
		return
	}
	if until := p.until.Load(); int64(now) >= until {
		p.until.CompareAndSwap(until, int64(now+probeFor(streak)))
	}
}

// drop ends the probe that began at start and taught nothing: the next attempt is one.
func (p *penalty) drop(start, now time.Duration) {
	if streak := int(p.streak.Load() & 255); streak > 0 {
		p.until.CompareAndSwap(int64(start+probeFor(streak)), int64(now))
	}
}

func probeFor(streak int) time.Duration { return penaltyAfter(streak+1) / 2 }

func penaltyAfter(streak int) time.Duration {
	if streak <= 1 {
		return firstPenalty
	}
	return min(secondPenalty<<min(streak-2, 16), maxPenalty)
}

// jitter returns a time between half and one and a half of d.
func jitter(d time.Duration, r uint64) time.Duration {
	return d/2 + time.Duration(float64(d)*float64(r>>11)/(1<<53))
}
